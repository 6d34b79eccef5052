-- Where the notification stands that has decided the order; NULL for notifications of other services, and for
-- inventory's replies, by which earlier versions decided.
ALTER TABLE public.order_view ADD COLUMN decided_sequence text COLLATE "C";
