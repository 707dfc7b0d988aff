# What the tests use to fill and to compare volumes, where images can be pulled.
FROM debian:12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends acl attr coreutils findutils libcap2-bin postgresql-client-15 \
        postgresql-contrib python3 tar zstd procps util-linux \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
