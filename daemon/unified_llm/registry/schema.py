"""The tables of the database, as the numbered steps that make them.

Rule 1: a step that has been released is never changed; a change is a further step at the end.
Rule 2: tables are STRICT, so that damage which a check of the file's structure misses is still
refused as a value of a wrong type.
"""

from typing import Final

# "ullm"; tells our file from any other database that is put in its place.
APPLICATION_ID: Final = 0x756C6C6D

MIGRATIONS: Final[tuple[str, ...]] = (
    # identity: see registry.files.file_key. reader: which reader said it; another one looks again.
    # header: JSON of a gguf ModelHeader; null for a file with a defect.
    """
    CREATE TABLE files (
      identity TEXT PRIMARY KEY,
      reader TEXT NOT NULL,
      header BLOB,
      defect TEXT,
      seen_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    # run: JSON of a domain MeasuredRun without its digest. devices: JSON object, name to bytes.
    """
    ALTER TABLE files ADD COLUMN sha256 TEXT;
    CREATE TABLE measurements (
      digest TEXT NOT NULL,
      run TEXT NOT NULL,
      devices TEXT NOT NULL,
      measured_at INTEGER NOT NULL,
      PRIMARY KEY (digest, run)
    ) STRICT, WITHOUT ROWID;
    """,
    "ALTER TABLE files ADD COLUMN is_companion INTEGER NOT NULL DEFAULT 0;",
    # cost: picodollars. See domain.usage.UsageLine.
    """
    CREATE TABLE usage (
      day TEXT NOT NULL,
      principal TEXT NOT NULL,
      provider TEXT NOT NULL,
      model TEXT NOT NULL,
      answers INTEGER NOT NULL,
      prompt_tokens INTEGER NOT NULL,
      completion_tokens INTEGER NOT NULL,
      cached_tokens INTEGER NOT NULL,
      cache_write_tokens INTEGER NOT NULL,
      reasoning_tokens INTEGER NOT NULL,
      cost INTEGER NOT NULL,
      unpriced INTEGER NOT NULL,
      estimated INTEGER NOT NULL,
      PRIMARY KEY (day, principal, provider, model)
    ) STRICT, WITHOUT ROWID;
    """,
)
"""Step n brings a database of version n - 1 to version n (`PRAGMA user_version`)."""
