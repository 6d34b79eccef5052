-- The stock as it is shown: of what was said about a product, the latest.
CREATE TABLE public.stock_view (
    product_id  int         NOT NULL PRIMARY KEY,
    current_qty int         NOT NULL,
    said_at     timestamptz NOT NULL,  -- time of the record
    updated     boolean     NOT NULL   -- by stock-updated, which beats a stock-created of the same instant
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
