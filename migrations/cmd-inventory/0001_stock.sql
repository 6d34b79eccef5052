-- What is there of each product. Updated with every deduction, so pages keep room for new versions.
CREATE TABLE public.stock (
    product_id  int NOT NULL PRIMARY KEY CHECK (product_id >= 1),
    current_qty int NOT NULL CHECK (current_qty >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- Numbers for products that are created without one. Taken numbers are passed over.
CREATE SEQUENCE public.stock_product_number AS int;

-- Orders that were decided on, deducted or rejected: each once, however often its order-created comes.
CREATE TABLE public.deduction_decision (
    order_id   uuid        NOT NULL PRIMARY KEY,
    decided_at timestamptz NOT NULL DEFAULT now()
);
