-- Which start of weir writes the rows: a weir that is not the last to have started with a store, or a copy of it, writes
-- none. 0: a version without fences.
ALTER TABLE weir_delivery_positions ADD COLUMN fence INTEGER NOT NULL DEFAULT 0;
