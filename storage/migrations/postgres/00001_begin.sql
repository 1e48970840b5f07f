-- Times are milliseconds since 1970, 0 for never. Texts compare by bytes, as in
-- SQLite, so both engines agree on every order.
-- Numbers of 64 bits without a sign are kept with the same bits, signed.

-- +goose Up

CREATE TABLE store (
	one         bigint           NOT NULL PRIMARY KEY CHECK (one = 1),
	incarnation text COLLATE "C" NOT NULL
);

INSERT INTO store (one, incarnation) VALUES (1, substr(replace(gen_random_uuid()::text, '-', ''), 1, 10));

-- A lease; those named input/NN also carry the position of partition NN, so
-- that one statement is the fence and the position.
CREATE TABLE lease (
	name    text COLLATE "C" NOT NULL PRIMARY KEY,
	holder  text COLLATE "C" NOT NULL,
	epoch   bigint           NOT NULL,
	until   bigint           NOT NULL,
	journal bigint           NOT NULL DEFAULT 0,
	seq     bigint           NOT NULL DEFAULT 0
);

CREATE TABLE account (
	tenant  text COLLATE "C" NOT NULL,
	role    text COLLATE "C" NOT NULL,
	subject text COLLATE "C" NOT NULL,
	name    text COLLATE "C" NOT NULL DEFAULT '',
	seen    bigint           NOT NULL DEFAULT 0,
	PRIMARY KEY (tenant, role, subject)
);

CREATE TABLE session (
	tenant    text COLLATE "C" NOT NULL,
	role      text COLLATE "C" NOT NULL,
	subject   text COLLATE "C" NOT NULL,
	client    text COLLATE "C" NOT NULL,
	partition bigint           NOT NULL, -- of the account
	node      text COLLATE "C" NOT NULL,
	epoch     bigint           NOT NULL,
	up        boolean          NOT NULL,
	changed   bigint           NOT NULL,
	PRIMARY KEY (tenant, role, subject, client)
);

CREATE INDEX session_node ON session (node, partition) WHERE up;

-- What was said, for ever unique per account.
CREATE TABLE said (
	tenant       text COLLATE "C" NOT NULL,
	role         text COLLATE "C" NOT NULL,
	subject      text COLLATE "C" NOT NULL,
	id           text COLLATE "C" NOT NULL,
	hash         bytea            NOT NULL,
	conversation text COLLATE "C" NOT NULL,
	seq          bigint           NOT NULL, -- 0 for commands
	at           bigint           NOT NULL,
	PRIMARY KEY (tenant, role, subject, id)
);

CREATE TABLE conversation (
	tenant        text COLLATE "C" NOT NULL,
	id            text COLLATE "C" NOT NULL,
	customer_role text COLLATE "C" NOT NULL,
	customer      text COLLATE "C" NOT NULL,
	customer_name text COLLATE "C" NOT NULL,
	queue         text COLLATE "C" NOT NULL,
	state         text COLLATE "C" NOT NULL,
	holder        text COLLATE "C" NOT NULL,
	holder_name   text COLLATE "C" NOT NULL,
	epoch         bigint           NOT NULL,
	accepted      boolean          NOT NULL,
	episode       bigint           NOT NULL,
	seq           bigint           NOT NULL,
	last_at       bigint           NOT NULL,
	last_text     bytea            NOT NULL, -- sealed
	last_from     text COLLATE "C" NOT NULL,
	opened        bigint           NOT NULL,
	since         bigint           NOT NULL,
	resolved      bigint           NOT NULL
) WITH (fillfactor = 70); -- a message changes nothing that is indexed: room on the page spares the indexes

-- The narrower come last: where nothing is known of the data yet, both engines
-- prefer the newest of the indexes that would do.
CREATE INDEX conversation_since ON conversation (tenant, since, id);
CREATE INDEX conversation_unresolved ON conversation (tenant, since, id) WHERE state IN ('waiting', 'held');
CREATE INDEX conversation_customer ON conversation (tenant, customer, since, id);
CREATE UNIQUE INDEX conversation_open ON conversation (tenant, customer_role, customer) WHERE state IN ('waiting', 'held');
CREATE INDEX conversation_held ON conversation (tenant, holder, since, id) WHERE state = 'held';
CREATE INDEX conversation_waiting ON conversation (tenant, queue, since, id) WHERE state = 'waiting';
ALTER TABLE conversation ADD PRIMARY KEY (tenant, id);

-- Partitioned by month, so that a year can be moved away whole. That a seq is
-- taken once is held by the lock on the conversation: an index cannot span partitions without at.
CREATE TABLE message (
	tenant       text COLLATE "C" NOT NULL,
	conversation text COLLATE "C" NOT NULL,
	seq          bigint           NOT NULL,
	at           bigint           NOT NULL,
	id           text COLLATE "C" NOT NULL,
	role         text COLLATE "C" NOT NULL,
	subject      text COLLATE "C" NOT NULL,
	name         text COLLATE "C" NOT NULL,
	kind         text COLLATE "C" NOT NULL,
	body         bytea            NOT NULL, -- sealed
	PRIMARY KEY (tenant, conversation, seq, at)
) PARTITION BY RANGE (at);

-- What no month has been made for. The months are made ahead (Maintain).
CREATE TABLE message_default PARTITION OF message DEFAULT;

-- How many events an inbox was told.
CREATE TABLE inbox (
	tenant text COLLATE "C" NOT NULL,
	kind   text COLLATE "C" NOT NULL,
	name   text COLLATE "C" NOT NULL,
	last   bigint           NOT NULL,
	PRIMARY KEY (tenant, kind, name)
);

CREATE TABLE event (
	tenant    text COLLATE "C" NOT NULL,
	kind      text COLLATE "C" NOT NULL,
	name      text COLLATE "C" NOT NULL,
	n         bigint           NOT NULL,
	partition bigint           NOT NULL, -- of the inbox
	at        bigint           NOT NULL,
	body      bytea            NOT NULL, -- sealed
	PRIMARY KEY (tenant, kind, name, n)
);

CREATE INDEX event_at ON event (at);

-- The events not yet published: a row here is that state.
CREATE TABLE outbox (
	partition bigint           NOT NULL, -- of the inbox
	tenant    text COLLATE "C" NOT NULL,
	kind      text COLLATE "C" NOT NULL,
	name      text COLLATE "C" NOT NULL,
	n         bigint           NOT NULL,
	PRIMARY KEY (partition, tenant, kind, name, n)
);

CREATE TABLE agent (
	tenant        text COLLATE "C" NOT NULL,
	id            text COLLATE "C" NOT NULL,
	name          text COLLATE "C" NOT NULL,
	disabled      boolean          NOT NULL,
	intent        text COLLATE "C" NOT NULL,
	capacity      bigint           NOT NULL,
	idle_since    bigint           NOT NULL DEFAULT 0,
	password_hash text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant, id)
);

CREATE TABLE job (
	id      text COLLATE "C" NOT NULL PRIMARY KEY,
	kind    text COLLATE "C" NOT NULL,
	at      bigint           NOT NULL, -- when it is due, or due again
	attempt bigint           NOT NULL,
	claim   bigint           NOT NULL,
	payload bytea            NOT NULL -- sealed
);

CREATE INDEX job_due ON job (kind, at, id);

CREATE TABLE configuration (
	tenant   text COLLATE "C" NOT NULL,
	revision bigint           NOT NULL,
	at       bigint           NOT NULL,
	actor    text COLLATE "C" NOT NULL,
	body     bytea            NOT NULL,
	PRIMARY KEY (tenant, revision)
);

CREATE TABLE audit (
	id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tenant text COLLATE "C" NOT NULL,
	at     bigint           NOT NULL,
	actor  text COLLATE "C" NOT NULL,
	action text COLLATE "C" NOT NULL,
	object text COLLATE "C" NOT NULL,
	detail text COLLATE "C" NOT NULL
);

CREATE INDEX audit_at ON audit (tenant, at, id);
CREATE INDEX audit_object ON audit (tenant, object, at, id);
