-- The exchange's durable record. Times are UTC ms, money and shares base units (6 decimals), prices base units a share.
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS api_keys (
    key TEXT PRIMARY KEY, address TEXT NOT NULL, nonce INTEGER NOT NULL, secret TEXT NOT NULL, passphrase TEXT NOT NULL,
    active INTEGER NOT NULL, created_ms INTEGER NOT NULL, UNIQUE (address, nonce)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS markets (
    condition_id TEXT PRIMARY KEY, slug TEXT NOT NULL UNIQUE, up TEXT NOT NULL UNIQUE, down TEXT NOT NULL UNIQUE,
    end_ms INTEGER NOT NULL, reference REAL, final REAL, winner INTEGER, resolved_ms INTEGER,
    tick INTEGER NOT NULL DEFAULT 10000) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orders (
    seq INTEGER PRIMARY KEY, order_id TEXT NOT NULL UNIQUE, condition_id TEXT NOT NULL, slug TEXT NOT NULL,
    token_id TEXT NOT NULL, wallet TEXT NOT NULL, owner TEXT NOT NULL, api_key TEXT NOT NULL, outcome INTEGER NOT NULL,
    side TEXT NOT NULL, order_type TEXT NOT NULL, price INTEGER NOT NULL, size INTEGER NOT NULL,
    received_ms INTEGER NOT NULL, expires_ms INTEGER, post_only INTEGER NOT NULL,
    size_matched INTEGER NOT NULL, status TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS orders_live ON orders (status) WHERE status = 'LIVE';
CREATE TABLE IF NOT EXISTS trades (
    seq INTEGER PRIMARY KEY, trade_id TEXT NOT NULL UNIQUE, condition_id TEXT NOT NULL, slug TEXT NOT NULL,
    time_ms INTEGER NOT NULL, size INTEGER NOT NULL, fee INTEGER NOT NULL,
    taker_order_id TEXT NOT NULL, taker_wallet TEXT NOT NULL, taker_owner TEXT NOT NULL, taker_key TEXT NOT NULL,
    taker_token TEXT NOT NULL, taker_outcome INTEGER NOT NULL, taker_side TEXT NOT NULL, taker_price INTEGER NOT NULL,
    maker_order_id TEXT NOT NULL, maker_wallet TEXT NOT NULL, maker_owner TEXT NOT NULL, maker_key TEXT NOT NULL,
    maker_token TEXT NOT NULL, maker_outcome INTEGER NOT NULL, maker_side TEXT NOT NULL, maker_price INTEGER NOT NULL,
    fate TEXT NOT NULL DEFAULT 'confirmed', settle_ms INTEGER NOT NULL DEFAULT 1000, reversed_ms INTEGER,
    match_id TEXT NOT NULL DEFAULT '', limit_price INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS trades_match ON trades (match_id);
CREATE INDEX IF NOT EXISTS trades_failing ON trades (seq) WHERE fate = 'failed' AND reversed_ms IS NULL;
CREATE INDEX IF NOT EXISTS trades_taker ON trades (taker_owner, seq);
CREATE INDEX IF NOT EXISTS trades_maker ON trades (maker_owner, seq);
CREATE INDEX IF NOT EXISTS trades_taker_order ON trades (taker_order_id);
CREATE INDEX IF NOT EXISTS trades_maker_order ON trades (maker_order_id);
CREATE TABLE IF NOT EXISTS ledger (
    seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, wallet TEXT NOT NULL, asset TEXT NOT NULL,
    amount INTEGER NOT NULL, reason TEXT NOT NULL, ref TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS ledger_ref ON ledger (ref);
-- What a wallet does not let the exchange take: collateral, shares. No row: it lets it.
CREATE TABLE IF NOT EXISTS unapproved (wallet TEXT NOT NULL, kind TEXT NOT NULL, PRIMARY KEY (wallet, kind)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heartbeats (key TEXT PRIMARY KEY, expected TEXT NOT NULL, armed INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS transactions (
    id TEXT PRIMARY KEY, wallet TEXT NOT NULL, time_ms INTEGER NOT NULL, state TEXT NOT NULL, hash TEXT NOT NULL,
    error TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
    seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, address TEXT NOT NULL,
    order_id TEXT NOT NULL, body BLOB NOT NULL, status INTEGER NOT NULL, answer TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS prices (time_ms INTEGER PRIMARY KEY, lead TEXT NOT NULL, settlement TEXT NOT NULL);
