-- Orders as they are shown. A reply may come before its order-created: then the row has no `created_at`, and
-- is not shown.
CREATE TABLE public.order_view (
    order_id   uuid        NOT NULL PRIMARY KEY,
    product_id int         NOT NULL DEFAULT 0,
    order_qty  int         NOT NULL DEFAULT 0,
    status     text        NOT NULL CHECK (status IN ('PENDING_CONFIRMATION', 'CONFIRMED', 'CANCELLED')),
    created_at timestamptz, -- as order-created says
    decided_at timestamptz  -- time of the earliest reply, which alone counts
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

-- Serves the list with a status filter, and without: then once per status.
CREATE INDEX order_view_status ON public.order_view (status, created_at DESC, order_id DESC);
