-- How far each sink has delivered: written in the transaction that writes the rows, so that a batch which is given
-- again after a lost answer is stored once.
CREATE TABLE weir_delivery_positions (
    -- The broker's store: two brokers may deliver into one database.
    store_id   TEXT    NOT NULL,
    rule_id    TEXT    NOT NULL,
    sink_id    TEXT    NOT NULL,
    lane       INTEGER NOT NULL,
    -- One life of the queue. Positions of two epochs are not compared: a new epoch starts anew.
    epoch      INTEGER NOT NULL,
    -- The last sequence number of that epoch whose row is stored.
    position   INTEGER NOT NULL,
    updated_at TEXT    NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (store_id, rule_id, sink_id, lane)
) WITHOUT ROWID;
