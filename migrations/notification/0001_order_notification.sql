-- What orders were notified of: one row per record.
CREATE TABLE public.order_notification (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id    uuid        NOT NULL,
    message     text        NOT NULL,
    received_at timestamptz NOT NULL
);
CREATE INDEX order_notification_order ON public.order_notification (order_id, id);
