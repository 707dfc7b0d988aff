# backupd in a container: `docker build -t backupd .`; deploy/compose.yaml runs it.
# Debian and not Alpine: pyrage, which reads ssh keys and passphrases, has no wheels for musl.
ARG BUILD_IMAGE=python:3.14
ARG IMAGE=python:3.14-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
# Dependencies first: they change less often than the source. The secrets are only for networks where Python packages come
# through an index or a certificate authority of one's own.
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN --mount=type=secret,id=pip_conf --mount=type=secret,id=ca_bundle \
    export PIP_CONFIG_FILE=/run/secrets/pip_conf PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 \
 && if [ -s /run/secrets/ca_bundle ]; then export PIP_CERT=/run/secrets/ca_bundle; fi \
 && python -m pip install --require-hashes --only-binary :all: --target /opt/backupd -r requirements/runtime.txt \
 && python -m pip install --require-hashes --only-binary :all: --target /opt/build -r requirements/build.txt
# Of the hundreds of services that botocore describes, one stores and four let in. zstandard brings the same twice.
RUN cd /opt/backupd/botocore/data \
 && find . -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} + \
 && cd /opt/backupd/boto3/data && find . -mindepth 1 -maxdepth 1 ! -name s3 -exec rm -r {} + \
 && rm /opt/backupd/zstandard/_cffi*.so \
 && if command -v strip; then find /opt/backupd -name '*.so' -exec strip --strip-unneeded {} +; fi
COPY pyproject.toml hatch_build.py README.md ./
COPY backupd backupd
RUN PYTHONPATH=/opt/build python -m pip wheel -q --no-deps --no-index --no-build-isolation -w /opt/wheel . \
 && python -m pip install -q --no-deps --no-index --root-user-action ignore --upgrade --target /opt/backupd /opt/wheel/*.whl
# A volume that is mounted on a directory of the image for the first time takes over whose it is.
RUN mkdir -p /opt/state/var/lib/backupd /opt/state/backups && chown -R 10001:10001 /opt/state/var/lib/backupd /opt/state/backups

FROM ${IMAGE}
LABEL org.opencontainers.image.title="backupd" \
      org.opencontainers.image.description="Backs up Docker volumes on schedule, deduplicated, and restores them with one command"
COPY --from=build /opt/state /
COPY --from=build /opt/backupd /opt/backupd
ENV PYTHONPATH=/opt/backupd PYTHONUNBUFFERED=1 PATH=/opt/backupd/bin:$PATH
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s --retries=2 CMD ["backupd", "health"]
ENTRYPOINT ["backupd"]
CMD ["run"]
