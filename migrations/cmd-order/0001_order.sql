-- Orders as they were placed, and how they ended; `GET /orders/{orderId}/events` is answered from it. Each
-- row is updated once. No index has a column that changes, so the update stays on its page.
CREATE TABLE public.customer_order (
    order_id   uuid        NOT NULL PRIMARY KEY,
    product_id int         NOT NULL CHECK (product_id >= 1),
    order_qty  int         NOT NULL CHECK (order_qty >= 1),
    status     text        NOT NULL CHECK (status IN ('PENDING_CONFIRMATION', 'CONFIRMED', 'CANCELLED')),
    created_at timestamptz NOT NULL,
    ended_at   timestamptz CHECK ((ended_at IS NULL) = (status = 'PENDING_CONFIRMATION')),
    -- Why it was cancelled.
    reason     text        CHECK ((reason IS NOT NULL) = (status = 'CANCELLED'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
