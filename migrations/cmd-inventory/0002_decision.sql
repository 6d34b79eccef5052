-- What each decision was made from, so that a repeated order-created gets the same reply: the order as it
-- came first, and how much of its product was left.
--
-- order_qty is NULL for orders that were decided on before these columns existed: their repeats are ignored.
-- Where it is not, available is NULL if there was no such product.
ALTER TABLE public.deduction_decision
    ADD COLUMN product_id int,
    ADD COLUMN order_qty  int,
    ADD COLUMN available  int;
