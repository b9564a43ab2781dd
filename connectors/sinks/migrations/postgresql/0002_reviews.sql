-- Reviews are few among all events, and asked for by those who decide them.
CREATE INDEX payment_events_reviews ON payment_events (recorded_at_ms) WHERE stage = 'reviews';
