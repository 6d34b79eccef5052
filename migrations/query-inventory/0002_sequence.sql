-- Where the record stands that the value is from; NULL for records of other services. Of two values that both
-- have one, the higher one counts.
ALTER TABLE public.stock_view ADD COLUMN sequence text COLLATE "C";
