-- Captures, voids and refunds change no row of payments: reconciliation finds them by their time. Few among all events.
CREATE INDEX payment_events_operations ON payment_events (recorded_at_ms) WHERE sequence = 1500000000;
