-- Times are milliseconds since 1970, 0 for never. Texts compare by bytes.
-- Numbers of 64 bits without a sign are kept with the same bits, signed.

-- +goose Up

CREATE TABLE store (
	one         integer NOT NULL PRIMARY KEY CHECK (one = 1),
	incarnation text    NOT NULL
);

INSERT INTO store (one, incarnation) VALUES (1, lower(hex(randomblob(5))));

-- A lease; those named input/NN also carry the position of partition NN, so
-- that one statement is the fence and the position.
CREATE TABLE lease (
	name    text    NOT NULL PRIMARY KEY,
	holder  text    NOT NULL,
	epoch   integer NOT NULL,
	until   integer NOT NULL,
	journal integer NOT NULL DEFAULT 0,
	seq     integer NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE account (
	tenant  text    NOT NULL,
	role    text    NOT NULL,
	subject text    NOT NULL,
	name    text    NOT NULL DEFAULT '',
	seen    integer NOT NULL DEFAULT 0,
	PRIMARY KEY (tenant, role, subject)
) WITHOUT ROWID;

CREATE TABLE session (
	tenant    text    NOT NULL,
	role      text    NOT NULL,
	subject   text    NOT NULL,
	client    text    NOT NULL,
	partition integer NOT NULL, -- of the account
	node      text    NOT NULL,
	epoch     integer NOT NULL,
	up        integer NOT NULL,
	changed   integer NOT NULL,
	PRIMARY KEY (tenant, role, subject, client)
) WITHOUT ROWID;

CREATE INDEX session_node ON session (node, partition) WHERE up;

-- What was said, for ever unique per account.
CREATE TABLE said (
	tenant       text    NOT NULL,
	role         text    NOT NULL,
	subject      text    NOT NULL,
	id           text    NOT NULL,
	hash         blob    NOT NULL,
	conversation text    NOT NULL,
	seq          integer NOT NULL, -- 0 for commands
	at           integer NOT NULL,
	PRIMARY KEY (tenant, role, subject, id)
) WITHOUT ROWID;

CREATE TABLE conversation (
	tenant        text    NOT NULL,
	id            text    NOT NULL,
	customer_role text    NOT NULL,
	customer      text    NOT NULL,
	customer_name text    NOT NULL,
	queue         text    NOT NULL,
	state         text    NOT NULL,
	holder        text    NOT NULL,
	holder_name   text    NOT NULL,
	epoch         integer NOT NULL,
	accepted      integer NOT NULL,
	episode       integer NOT NULL,
	seq           integer NOT NULL,
	last_at       integer NOT NULL,
	last_text     blob    NOT NULL, -- sealed
	last_from     text    NOT NULL,
	opened        integer NOT NULL,
	since         integer NOT NULL,
	resolved      integer NOT NULL,
	PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- The narrower come last: where nothing is known of the data yet, both engines
-- prefer the newest of the indexes that would do.
CREATE INDEX conversation_since ON conversation (tenant, since, id);
CREATE INDEX conversation_unresolved ON conversation (tenant, since, id) WHERE state IN ('waiting', 'held');
CREATE INDEX conversation_customer ON conversation (tenant, customer, since, id);
CREATE UNIQUE INDEX conversation_open ON conversation (tenant, customer_role, customer) WHERE state IN ('waiting', 'held');
CREATE INDEX conversation_held ON conversation (tenant, holder, since, id) WHERE state = 'held';
CREATE INDEX conversation_waiting ON conversation (tenant, queue, since, id) WHERE state = 'waiting';

CREATE TABLE message (
	tenant       text    NOT NULL,
	conversation text    NOT NULL,
	seq          integer NOT NULL,
	at           integer NOT NULL,
	id           text    NOT NULL,
	role         text    NOT NULL,
	subject      text    NOT NULL,
	name         text    NOT NULL,
	kind         text    NOT NULL,
	body         blob    NOT NULL, -- sealed
	PRIMARY KEY (tenant, conversation, seq)
) WITHOUT ROWID;

-- How many events an inbox was told.
CREATE TABLE inbox (
	tenant text    NOT NULL,
	kind   text    NOT NULL,
	name   text    NOT NULL,
	last   integer NOT NULL,
	PRIMARY KEY (tenant, kind, name)
) WITHOUT ROWID;

CREATE TABLE event (
	tenant    text    NOT NULL,
	kind      text    NOT NULL,
	name      text    NOT NULL,
	n         integer NOT NULL,
	partition integer NOT NULL, -- of the inbox
	at        integer NOT NULL,
	body      blob    NOT NULL, -- sealed
	PRIMARY KEY (tenant, kind, name, n)
) WITHOUT ROWID;

CREATE INDEX event_at ON event (at);

-- The events not yet published: a row here is that state.
CREATE TABLE outbox (
	partition integer NOT NULL, -- of the inbox
	tenant    text    NOT NULL,
	kind      text    NOT NULL,
	name      text    NOT NULL,
	n         integer NOT NULL,
	PRIMARY KEY (partition, tenant, kind, name, n)
) WITHOUT ROWID;

CREATE TABLE agent (
	tenant        text    NOT NULL,
	id            text    NOT NULL,
	name          text    NOT NULL,
	disabled      integer NOT NULL,
	intent        text    NOT NULL,
	capacity      integer NOT NULL,
	idle_since    integer NOT NULL DEFAULT 0,
	password_hash text    NOT NULL,
	PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

CREATE TABLE job (
	id      text    NOT NULL PRIMARY KEY,
	kind    text    NOT NULL,
	at      integer NOT NULL, -- when it is due, or due again
	attempt integer NOT NULL,
	claim   integer NOT NULL,
	payload blob    NOT NULL -- sealed
) WITHOUT ROWID;

CREATE INDEX job_due ON job (kind, at, id);

CREATE TABLE configuration (
	tenant   text    NOT NULL,
	revision integer NOT NULL,
	at       integer NOT NULL,
	actor    text    NOT NULL,
	body     blob    NOT NULL,
	PRIMARY KEY (tenant, revision)
) WITHOUT ROWID;

CREATE TABLE audit (
	id     integer NOT NULL PRIMARY KEY,
	tenant text    NOT NULL,
	at     integer NOT NULL,
	actor  text    NOT NULL,
	action text    NOT NULL,
	object text    NOT NULL,
	detail text    NOT NULL
);

CREATE INDEX audit_at ON audit (tenant, at, id);
CREATE INDEX audit_object ON audit (tenant, object, at, id);
