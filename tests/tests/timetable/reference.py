"""Answers for the differential test of the timetable.

Reads lines `expressions TAB zone TAB seconds` (expressions joined by `|`, seconds since 1970) and writes for each
`model TAB direct TAB rule`:

- model: the next firing by the rules of the documentation, computed from croniter's matching of *naive* local times
  and the offsets of zoneinfo;
- direct: what croniter itself answers for a time with a zone;
- rule: why the two differ, `same` or `unexplained`.
"""

import sys
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import croniter

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
REACH = timedelta(hours=27)


@lru_cache(maxsize=None)
def zone_of(name):
    return ZoneInfo(name)


@lru_cache(maxsize=4096)
def iterator(expression):
    return croniter(expression, datetime(2000, 1, 1), second_at_beginning=True)


def utc(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc)


def offset_at(zone, instant):
    return instant.astimezone(zone).utcoffset()


def local(zone, instant):
    return instant.astimezone(zone).replace(tzinfo=None)


def next_naive(expression, after):
    """The first matching naive time strictly after another."""
    found = iterator(expression)
    found.set_current(after, force=True)
    return found.get_next(datetime)


def change(zone, low, high):
    """The first second in (low, high] with another offset than low has."""
    before = offset_at(zone, low)
    while high - low > SECOND:
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if offset_at(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


def first_change(zone, start, end):
    """The first change of the offset in (start, end]; two within a day would be seen as one or as none."""
    offset = offset_at(zone, start)
    while start < end:
        stop = min(start + DAY, end)
        if offset_at(zone, stop) != offset:
            return change(zone, start, stop)
        start = stop
    return None


def first_pass(zone, naive):
    """The instant of a local time: the first of two, the end of a gap. And whether it lies in a gap."""
    early = naive.replace(tzinfo=zone, fold=0).astimezone(timezone.utc)
    if local(zone, early) == naive:
        return early, False
    return change(zone, early - DAY, early + DAY), True


def fixed(expression, zone, after):
    """Once in a gap, at its end; once in an overlap, in its first pass."""
    naive = local(zone, after)
    if offset_at(zone, after - REACH) != offset_at(zone, after):
        naive -= REACH
    while True:
        naive = next_naive(expression, naive)
        instant, in_gap = first_pass(zone, naive)
        if instant > after:
            return instant, in_gap


def elapsed(expression, zone, after):
    """Every instant whose local time matches, in both passes."""
    while True:
        offset = offset_at(zone, after)
        found = (next_naive(expression, (after + offset).replace(tzinfo=None)) - offset).replace(tzinfo=timezone.utc)
        at = first_change(zone, after, found)
        if at is None:
            return found
        # From the last second before the change on, in the offset that follows.
        offset = offset_at(zone, at)
        found = (next_naive(expression, local(zone, at) - SECOND) - offset).replace(tzinfo=timezone.utc)
        if first_change(zone, at, found) is None:
            return found
        after = at


def is_elapsed(expression):
    return expression.split()[-4] == "*"


def by_rules(expression, zone, after):
    if is_elapsed(expression):
        return elapsed(expression, zone, after), False
    return fixed(expression, zone, after)


@lru_cache(maxsize=64)
def iterator_in(expression, zone):
    return croniter(expression, datetime(2000, 1, 1, tzinfo=zone), second_at_beginning=True)


def croniters_own(expression, zone, after):
    found = iterator_in(expression, zone)
    found.set_current(after.astimezone(zone), force=True)
    return found.get_next(datetime).astimezone(timezone.utc)


def rule_of(expression, zone, ours, in_gap, theirs):
    """Why croniter, asked for a time with a zone, differs from the rules."""
    if ours == theirs:
        return "same"
    if in_gap:
        # It comes out of the gap at another moment than the end of it.
        return "gap"
    first_pass_of_theirs, _ = first_pass(zone, local(zone, theirs))
    if not is_elapsed(expression) and first_pass_of_theirs < theirs < ours:
        # An hour field such as `0-23` counts as `*` there, and seconds go by elapsed time.
        return "second_pass"
    return "unexplained"


def answer(expressions, zone, after):
    models, directs, rules = [], [], []
    for expression in expressions:
        model, in_gap = by_rules(expression, zone, after)
        direct = croniters_own(expression, zone, after)
        models.append(model)
        directs.append(direct)
        rules.append(rule_of(expression, zone, model, in_gap, direct))
    rule = next((rule for rule in rules if rule != "same"), "same")
    if "unexplained" in rules:
        rule = "unexplained"
    return min(models), min(directs), rule


def main():
    for line in sys.stdin:
        expressions, zone, seconds = line.rstrip("\n").split("\t")
        model, direct, rule = answer(expressions.split("|"), zone_of(zone), utc(int(seconds)))
        print(int(model.timestamp()), int(direct.timestamp()), rule, sep="\t")


main()
