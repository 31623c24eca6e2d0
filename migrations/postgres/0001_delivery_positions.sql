-- How far each sink has delivered: written in the transaction that writes the rows, so that a batch which is given
-- again after a lost connection is stored once.
CREATE TABLE weir_delivery_positions (
    -- The broker's store: two brokers may deliver into one database.
    store_id   text   NOT NULL,
    rule_id    text   NOT NULL,
    sink_id    text   NOT NULL,
    lane       integer NOT NULL,
    -- One life of the queue. Positions of two epochs are not compared: a new epoch starts anew.
    epoch      bigint NOT NULL,
    -- The last sequence number of that epoch whose row is stored.
    position   bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (store_id, rule_id, sink_id, lane)
);
