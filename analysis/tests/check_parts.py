"""The parts that have a right answer of their own: checksum, varints, size classes, clock, estimates, survival.

Must not: read a trace.
"""
import math
import random

import numpy as np
import pytest

from tidemark_analysis import columns, compiled, free_lists
from tidemark_analysis.checksum import crc32c
from tidemark_analysis.clock import ClockMap
from tidemark_analysis.estimator import Amount, gamma_quantile, weights
from tidemark_analysis.survival import kaplan_meier


def bitwise_crc(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def test_checksum():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the polynomial
    chance = random.Random(1)
    for size in (0, 1, 28, 511, 512, 513, 767, 768, 1025, 4096, 70_001):
        data = chance.randbytes(size)
        assert crc32c(data) == bitwise_crc(data), size


def leb128(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def test_varints_of_every_length():
    chance = random.Random(2)
    values = [0, 1, 127, 128, (1 << 64) - 1] + [chance.getrandbits(chance.randrange(65)) for _ in range(5000)]
    data = np.frombuffer(b"".join(map(leb128, values)), np.uint8)
    assert columns.varints(data).tolist() == values


@pytest.mark.parametrize("data", [b"\x80", b"\x01\xff", b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x00", b"\x80" * 11])
def test_varints_that_are_none(data):
    array = np.frombuffer(b"\x05\x86\x01" + data, np.uint8)
    with pytest.raises(columns.UnsoundError):
        columns.varints(array)
    values, sound = columns.varints_before_damage(array)
    assert not sound
    assert values.tolist()[:2] == [5, 134]


def test_zigzag_wraps():
    stored = np.array([0, 1, 2, 3, (1 << 64) - 1, (1 << 64) - 2], np.uint64)
    assert columns.zigzag(stored).astype(np.int64).tolist() == [0, -1, 1, -2, -(1 << 63), (1 << 63) - 1]
    assert columns.running(np.array([2, 1, 1], np.uint64)).tolist() == [1, 0, (1 << 64) - 1]


def test_size_classes_as_the_document_words_them():
    chance = random.Random(3)
    sizes = [*range(300), *(1 << n for n in range(64)), *((1 << n) - 1 for n in range(65)),
             *(chance.getrandbits(chance.randrange(1, 65)) for _ in range(2000))]
    classes, steps = free_lists.size_classes(np.array(sizes, np.uint64))
    for size, size_class, step in zip(sizes, classes.tolist(), steps.tolist(), strict=True):
        words = -(-size // 8)
        if words <= 8:
            expected = (words + 1) // 2, max(1, (words + 1) // 2)
        else:
            top = (words - 1).bit_length() - 1
            quarter = ((words - 1) >> (top - 2)) & 3
            expected = 4 * top + quarter, -(-((5 + quarter) << (top - 2)) // 2)
        assert (size_class, step) == expected, size


def random_walk(chance: random.Random, events: int) -> free_lists.Walk:
    """Blocks of few pages, so that lists are searched, found, lost and exchanged; and now and then nonsense."""
    kinds, classes, steps, origins, far, surprises, differences = [], [], [], [], [], [], []
    blocks = shaped = 0
    for _ in range(events):
        kind = chance.choice((0, 0, 0, 1, 2, 3, 3, 3, 3))
        if kind != 3:
            origin = chance.randrange(min(blocks, 40) + 1) + (chance.randrange(20000) == 0) * 10**6
            origins.append(origin)
            if origin == 0:
                far.append((1 << 36) + chance.randrange(1 << 14))
        kinds.append(kind)
        blocks += kind != 0
        if kind in (1, 3):
            size_class = chance.randrange(6)
            classes.append(size_class)
            steps.append(size_class + 1)
            if chance.randrange(4) == 0:
                surprises.append(shaped)
                differences.append((chance.randrange(-5000, 5000)) % (1 << 64))
            shaped += 1
    arrays = [np.array(kinds, np.uint8), np.array(classes, np.uint8)]
    arrays += [np.array(values, np.uint64) for values in (steps, origins, far)]
    return free_lists.Walk(*arrays, np.array(surprises, np.int64), np.array(differences, np.uint64))


def test_the_compiled_loop_is_there_and_finds_the_same_addresses():
    """./dev test has a compiler, so the loop in C must be there; installations without one use the other."""
    assert compiled.library is not None
    for seed in range(20):
        walk = random_walk(random.Random(seed), 5000)
        in_c, in_python = free_lists._by_compiled_loop(walk), free_lists._by_python(walk)
        assert in_c.events == in_python.events
        assert np.array_equal(in_c.obtained, in_python.obtained)
        assert np.array_equal(in_c.released, in_python.released)


def test_clock_interpolates_and_extrapolates_without_overflow():
    clock = ClockMap([(1000, 5000), (3000, 6000), (2000, 5100), (2500, 5050)])  # the last would step back
    assert [clock.time_ns(tsc) for tsc in (1000, 2000, 2500, 3000, 4000, 0)] == [0, 100, 550, 1000, 1900, -100]
    stamps = np.array([0, 1000, 1999, 2000, 2001, 9000, 1 << 63], np.uint64)
    assert clock.times_ns(stamps).tolist() == [clock.time_ns(stamp) for stamp in stamps.tolist()]
    assert ClockMap([(1, 1), (2, (1 << 64) - 1)]).time_ns(1 << 63) == (1 << 63) - 1
    assert not ClockMap([(7, 7)]).knows_rate


def test_gamma_quantiles():
    """Against closed forms: shape 1 is exponential, shape 1/2 a squared normal; and its own inverse elsewhere."""
    assert gamma_quantile(np.array([1.0]), 0.975)[0] == pytest.approx(-math.log(0.025), rel=1e-10)
    assert gamma_quantile(np.array([0.5]), 0.95)[0] == pytest.approx(1.959963984540054**2 / 2, rel=1e-9)
    # Published chi-squared quantiles at 0.975: 2 gamma(k/2).
    for degrees, quantile in ((10, 20.483177), (100, 129.561197)):
        assert 2 * gamma_quantile(np.array([degrees / 2]), 0.975)[0] == pytest.approx(quantile, rel=1e-7)


def test_estimates_are_unbiased_and_intervals_cover():
    """1,000 blocks of 100 to 5,000 bytes, sampled 400 times with a mean distance of 4 KiB."""
    generator = np.random.default_rng(5)
    sizes = generator.integers(100, 5000, 1000).astype(np.uint64)
    chances = -np.expm1(-sizes.astype(float) / 4096)
    truth = int(sizes.sum())
    covered = 0
    estimates = []
    for _ in range(400):
        seen = sizes[generator.random(len(sizes)) < chances]
        weight = weights(seen, 4096)
        amount = Amount(np.array([seen.sum()], np.uint64), *(np.array([total]) for total in (
            weight.unseen_bytes.sum(), weight.bytes_variance.sum(), weight.bytes.max())))
        low, high = amount.interval_95()
        covered += bool(low[0] <= truth <= high[0])
        estimates.append(int(amount.rounded()[0]))
    assert np.mean(estimates) == pytest.approx(truth, rel=0.01)
    assert 0.92 * 400 <= covered <= 0.98 * 400 + 4


def test_kaplan_meier_of_a_textbook():
    """Ages 1, 2+, 3, 3, 5+ (+ censored): S is 4/5 after 1, 4/5 * 1/3 after 3; the censored never step."""
    curve = kaplan_meier(np.array([3.0, 1.0, 2.0, 3.0, 5.0]), np.array([True, True, False, True, False]), np.ones(5),
                         "time", "blocks")
    assert curve.age.tolist() == [1.0, 3.0]
    assert curve.share.tolist() == pytest.approx([0.8, 0.8 / 3])
    assert (curve.at(0.5), curve.at(2.9), curve.at(99)) == (1.0, pytest.approx(0.8), pytest.approx(0.8 / 3))
    assert curve.median() == 3.0
    # Greenwood at 1: variance of log(-log S) = (1 / (5 * 4)) / log(0.8)^2.
    spread = 1.96 * math.sqrt(1 / 20) / abs(math.log(0.8))
    assert curve.low[0] == pytest.approx(0.8 ** math.exp(spread))
    assert curve.high[0] == pytest.approx(0.8 ** math.exp(-spread))


def test_kaplan_meier_counts_a_weight_as_so_many_blocks():
    ages, dead = np.array([1.0, 2.0, 4.0]), np.array([True, True, False])
    weighted = kaplan_meier(ages, dead, np.array([3.0, 2.0, 5.0]), "time", "bytes")
    repeated = kaplan_meier(np.repeat(ages, (3, 2, 5)), np.repeat(dead, (3, 2, 5)), np.ones(10), "time", "blocks")
    assert weighted.share.tolist() == pytest.approx(repeated.share.tolist())
