CREATE TABLE orders (
    id integer PRIMARY KEY,
    customer text NOT NULL,
    cents integer NOT NULL
);
