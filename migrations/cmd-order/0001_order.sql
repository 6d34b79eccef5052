-- Orders as they were placed. `status` is updated once; no index has it, so the update stays on its page.
CREATE TABLE public.customer_order (
    order_id   uuid        NOT NULL PRIMARY KEY,
    product_id int         NOT NULL CHECK (product_id >= 1),
    order_qty  int         NOT NULL CHECK (order_qty >= 1),
    status     text        NOT NULL CHECK (status IN ('PENDING_CONFIRMATION', 'CONFIRMED', 'CANCELLED')),
    created_at timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- The history of each order. Its number says that an order is created once and ends once.
CREATE TABLE public.order_event (
    order_id uuid        NOT NULL,
    number   int         NOT NULL CHECK (number IN (1, 2)),
    event    text        NOT NULL CHECK ((number, event) IN ((1, 'ORDER_CREATED'), (2, 'ORDER_CONFIRMED'), (2, 'ORDER_CANCELLED'))),
    at       timestamptz NOT NULL,
    reason   text,
    PRIMARY KEY (order_id, number)
);
