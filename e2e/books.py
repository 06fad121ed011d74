"""What the ledger has written down, read with PostgreSQL's own client."""

import time
from dataclasses import dataclass

from servers import Postgres, Redis


@dataclass(frozen=True)
class Billed:
    """The use of one request, over all parts of its event."""

    request_id: str
    key: str
    plan: str
    code: str
    status: int
    prompt_tokens: int
    completion_tokens: int
    cost: int


def billed(postgres: Postgres, database: str) -> dict[str, Billed]:
    """Every request that has an event, by its id."""
    rows = postgres.sql(
        database,
        "SELECT request_id, min(key_name), min(plan), (array_agg(code ORDER BY part DESC))[1],"
        " (array_agg(status ORDER BY part DESC))[1], sum(prompt_tokens), sum(completion_tokens), sum(cost_nanodollars)"
        " FROM events GROUP BY request_id",
    )
    return {row[0]: Billed(*row[:4], *map(int, row[4:])) for row in rows}


def dead_letters(postgres: Postgres, database: str) -> list[list[str]]:
    """Entries that the ledger could not read."""
    return postgres.sql(database, "SELECT reason FROM dead_letters")


def wait_until_written(redis: Redis, within: float = 180) -> None:
    """Returns once no event waits in Redis: ledgers remove what they have committed."""
    deadline = time.monotonic() + within
    with redis.connect() as connection:
        outboxes = connection("KEYS", "{iy:*}:outbox")
        while waiting := sum(connection("XLEN", outbox) for outbox in outboxes):
            assert time.monotonic() < deadline, f"{waiting} events wait for a ledger"
