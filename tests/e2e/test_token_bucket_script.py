"""The script of the limits in Redis, by itself: a model of the bucket in whole fractions says what each command must answer, and a judge who
knows nothing of buckets looks at every interval."""
import pathlib
import random
import time
from fractions import Fraction

import pytest

SCRIPT = (pathlib.Path(__file__).parents[2] / "src/limit/token_bucket.lua").read_text()
MICRO = 1_000_000
LEASE_US = 20_000


class Policy:
    def __init__(self, num, den, burst, revision=1):
        self.num, self.den, self.burst, self.revision = num, den, burst, revision

    def __str__(self):
        return f"{self.num} {self.den} {self.burst} {self.revision}"

    def same(self, other):
        return (self.num, self.den, self.burst) == (other.num, other.den, other.burst)


class Part:
    """What is asked of one bucket."""
    def __init__(self, key, policy, cost=0, shadow=False, lease=0, pay=None):
        self.key, self.policy, self.cost, self.shadow, self.lease, self.pay = key, policy, cost, shadow, lease, pay

    def __str__(self):
        text = f"{self.policy} {self.cost}" + (" s" if self.shadow else "")
        if self.lease:
            text += f" l{self.lease}:{LEASE_US}"
        if self.pay:
            delta, source, sequence, at, again = self.pay
            text += f" p{delta}:{source}:{sequence}:{at}:{int(again)}"
        return text


class Answer:
    def __init__(self, text, policy, now):
        words = [int(word) for word in text.split(" ")]
        assert len(words) in (5, 8)
        self.verdict, level, remainder, self.lag, self.leased = words[:5]
        self.policy = Policy(*words[5:8]) if len(words) == 8 else policy
        assert len(words) == 5 or not self.policy.same(policy)  # the policy in force is told only where it is another
        self.level = level + Fraction(remainder, self.policy.den)
        self.time = now + self.lag


class Buckets:
    """The script on a real Redis, which is emptied."""
    def __init__(self, server, script=SCRIPT):
        self.api = server.api
        self.api.flushall()
        self.run = self.api.register_script(script)

    def ask(self, parts, peek=False):
        reply = self.run(keys=[part.key for part in parts], args=[str(part) for part in parts] + (["1"] if peek else []))
        admitted, now = reply[:2]
        assert len(reply) == 2 + len(parts)
        return bool(admitted), now, [Answer(text.decode(), part.policy, now) for text, part in zip(reply[2:], parts)]


class Model:
    """One bucket, as LIMITS has it. level in micro-tokens, a whole fraction."""
    def __init__(self, policy, now):
        self.policy, self.level, self.time, self.sources = policy, Fraction(policy.burst * MICRO), now, []

    @property
    def full(self):
        return self.policy.burst * MICRO

    def rate(self):
        return Fraction(self.policy.num, self.policy.den)

    def accrue(self, now):
        self.level = min(self.level + max(now - self.time, 0) * self.rate(), Fraction(self.full))
        self.time = max(now, self.time)

    def adopt(self, policy):
        if policy.revision <= self.policy.revision:
            return
        changed = not policy.same(self.policy)
        self.policy = policy
        if changed:  # what is less than a micro-token is rounded down to parts of the new rate
            whole = self.level // 1
            self.level = whole + Fraction((self.level - whole) * policy.den // 1, policy.den)
            self.level = min(self.level, Fraction(self.full))
        return changed

    def settle(self, asked, changed):
        delta, source, sequence, at, again = asked.pay
        known = dict(self.sources)
        if known.get(source, 0) >= sequence:
            return
        others = [entry for entry in self.sources if entry[0] != source]
        if again and len(others) >= 16:
            return
        self.sources = [(source, sequence)] + others[:15]
        micro = delta * MICRO
        if micro > 0 and at:
            accrued = -(-max(self.time - at, 0) * self.policy.num // self.policy.den)  # rounded up
            micro = max(micro - accrued, 0) if asked.policy.same(self.policy) and not changed else 0
        self.level = min(max(self.level + micro, Fraction(-2 ** 52)), Fraction(self.full))

    def lease(self, wish):
        reserve = -(-LEASE_US * self.policy.num // self.policy.den)
        granted = min(wish, max(min(self.level, self.full - reserve), 0) // MICRO)
        if self.full < 2 * reserve or granted < 1:
            return 0
        self.level = min(self.level, Fraction(self.full - reserve)) - granted * MICRO
        return granted


def expect(models, parts, peek, now):
    """What the models say to a command; their new state is theirs to keep."""
    verdicts = []
    for part in parts:
        model = models.setdefault(part.key, Model(part.policy, now))
        model.accrue(now)
        changed = model.adopt(part.policy)
        if part.pay:
            model.settle(part, changed)
        verdicts.append(2 if part.cost > model.policy.burst else int(part.cost > 0 and model.level < part.cost * MICRO))
    admitted = all(verdict == 0 or part.shadow for verdict, part in zip(verdicts, parts))
    leased = []
    for part, verdict in zip(parts, verdicts):
        model = models[part.key]
        if admitted and not peek and verdict == 0:
            model.level -= part.cost * MICRO
        leased.append(model.lease(part.lease) if admitted and not peek and part.lease else 0)
    return admitted, verdicts, leased


def check(models, parts, peek, said):
    admitted, now, answers = said
    before = {part.key: (models[part.key].time if part.key in models else 0) for part in parts}
    expected, verdicts, leased = expect(models, parts, peek, now)
    assert admitted == expected
    for part, verdict, lease, answer in zip(parts, verdicts, leased, answers):
        model = models[part.key]
        assert answer.time == model.time and answer.time >= before[part.key]
        assert (answer.verdict, answer.leased, answer.level) == (verdict, lease, model.level)
        assert answer.policy.same(model.policy)


def random_policy(dice, revision=1):
    num, den = dice.choice([(1, 3), (2000, 1), (50_000, 7), (1, 1000), (999_983, 1000), (7, 1)])
    return Policy(num, den, dice.choice([1, 2, 30, 1000, 50_000]), revision)


# ---- The model ----

@pytest.mark.parametrize("seed", range(6))
def test_every_answer_is_the_models(redis_server, seed):
    dice = random.Random(seed)
    buckets, models = Buckets(redis_server), {}
    policies = {f"k:{{{name}}}": random_policy(dice) for name in "abcd"}
    sequence, sent = 0, []
    for step in range(700):
        parts, peek = [], dice.random() < 0.1
        for key in dice.sample(sorted(policies), dice.randint(1, 3)):
            policy = policies[key]
            if dice.random() < 0.03:
                policy = policies[key] = random_policy(dice, policy.revision + dice.choice([0, 1, 1, 2]))
            part = Part(key, policy, dice.choice([0, 1, 1, 1, 5, policy.burst, policy.burst + 1]), dice.random() < 0.15,
                        dice.choice([0, 0, 1, 10, 10 ** 6]))
            if dice.random() < 0.3:
                if sent and dice.random() < 0.4:  # repeated, late, out of order
                    earlier = dice.choice(sent)
                    part.pay = earlier[:4] + (True,)
                else:
                    sequence += 1
                    at = int(models[key].time) - dice.randint(0, 30_000) if key in models and dice.random() < 0.3 else 0
                    part.pay = (dice.randint(-40, 40), f"{dice.randint(1, 20):08x}", sequence, at, False)
                    sent.append(part.pay)
            parts.append(part)
        said = buckets.ask(parts, peek)
        check(models, parts, peek, said)
        if not said[0] or peek:  # a refusal stores nothing but settlements and policies: the models agree about that too
            continue
        if dice.random() < 0.02:
            time.sleep(dice.random() / 50)


def test_debt_is_bounded_and_paid_back_by_time(redis_server):
    buckets, models = Buckets(redis_server), {}
    policy = Policy(1000, 1, 4_000_000_000)
    for sequence in range(1, 5):
        parts = [Part("k:{deep}", policy, pay=(-4_000_000_000, "aa", sequence, 0, False))]
        check(models, parts, False, buckets.ask(parts))
    assert models["k:{deep}"].level >= -2 ** 52
    parts = [Part("k:{deep}", policy, 1)]
    said = buckets.ask(parts)
    check(models, parts, False, said)
    assert not said[0]
    parts = [Part("k:{deep}", policy, 0, lease=5), Part("k:{other}", policy, 1)]  # nothing is asked of the one in debt but a lease
    said = buckets.ask(parts)
    check(models, parts, False, said)
    assert said[0] and said[2][0].leased == 0


# ---- Every interval ----

class Judge:
    """Admissions with their instants. Knows rate and burst, not buckets."""
    def __init__(self):
        self.admissions = []

    def note(self, at, tokens):
        self.admissions.append((at, tokens))

    def violations(self, policy):
        """Intervals [s, t] in which more than burst + rate * (t - s) was admitted, by their ends: the largest sum over all s is kept."""
        worst, carried, last, found = 0, Fraction(0), None, 0
        rate = Fraction(policy.num, policy.den)
        at_instant = {}
        for at, tokens in self.admissions:
            at_instant[at] = at_instant.get(at, 0) + tokens * MICRO
        for at in sorted(at_instant):
            if last is not None:
                carried = max(carried - rate * (at - last), Fraction(0))
            carried += at_instant[at]
            last = at
            found += carried > policy.burst * MICRO
            worst = max(worst, carried)
        return found


def adversary(buckets, policy, dice, seconds, refunds=True):
    """Several gateways that lease, take, and take back, and use what they leased as late as they may, or at once, or as it hurts most."""
    judge, leases, taken, key, sequence = Judge(), [], [], "k:{victim}", 0
    until = time.monotonic() + seconds
    admitted_in_all = 0
    while time.monotonic() < until:
        phase = dice.random()
        if phase < 0.05:
            time.sleep(dice.random() * LEASE_US / MICRO * 1.5)
        wish = dice.choice([0, 0, 1, policy.burst // 4, policy.burst])
        cost = dice.choice([0, 1, 1, policy.burst // 10, policy.burst])
        part = Part(key, policy, cost, lease=wish)
        if refunds and taken and dice.random() < 0.4:
            amount, at = taken.pop(dice.randrange(len(taken)))
            sequence += 1
            part.pay = (amount, f"{dice.randint(1, 4):x}", sequence, at - LEASE_US, False)
        admitted, now, (answer,) = buckets.ask([part])
        if admitted and cost:
            if refunds and dice.random() < 0.3:
                taken.append((cost, answer.time))  # nothing will come of it: it is nobody's admission
            else:
                judge.note(answer.time, cost)
                admitted_in_all += cost
        if answer.leased:
            leases.append((answer.time, answer.leased))
        # Leases are used a part at a time; whatever was debited at d may be used up to d + T.
        for at, tokens in leases:
            used = dice.choice([at, at + LEASE_US, at + LEASE_US, min(now, at + LEASE_US)])
            judge.note(max(used, at), tokens)
            admitted_in_all += tokens
        leases.clear()
    return judge, admitted_in_all


@pytest.mark.parametrize("policy", [Policy(2000, 1, 100), Policy(200_000, 7, 5000), Policy(1, 1, 1), Policy(999_983, 1000, 50)],
                         ids=["twice", "wide", "strict", "odd"])
@pytest.mark.parametrize("seed", range(2))
def test_every_interval_admits_burst_and_rate_at_most_leases_and_refunds_included(redis_server, policy, seed):
    judge, tokens = adversary(Buckets(redis_server), policy, random.Random(seed), 1.5)
    assert tokens >= policy.burst
    assert judge.violations(policy) == 0


def test_the_judge_finds_a_script_that_forgets_the_lease_time(redis_server):
    broken = SCRIPT.replace("cap(bucket, full - reserve)", "").replace("math.min(bucket.level, full - reserve)", "bucket.level")
    assert broken.count("reserve") == SCRIPT.count("reserve") - 2
    policy = Policy(2000, 1, 100)  # 40 tokens in a lease time
    for seed in range(20):
        judge, _ = adversary(Buckets(redis_server, broken), policy, random.Random(seed), 0.5, refunds=False)
        if judge.violations(policy):
            return
    raise AssertionError("nothing was found")


def taken_back_when_full_again(buckets, policy):
    """Takes, waits until the bucket is full all the same, empties it, and only then takes back what nothing came of."""
    judge, key = Judge(), "k:{patient}"
    for sequence in range(1, 8):
        _, _, (first,) = buckets.ask([Part(key, policy, 40)])
        while buckets.ask([Part(key, policy)])[2][0].level < policy.burst * MICRO:
            pass
        pay = (40, "ab", sequence, first.time - LEASE_US, False)
        for part in (Part(key, policy, policy.burst), Part(key, policy, 40, pay=pay)):
            admitted, _, (answer,) = buckets.ask([part])
            if admitted:
                judge.note(answer.time, part.cost)
    return judge


def test_what_is_taken_back_late_is_only_what_was_missing_all_the_time(redis_server):
    policy = Policy(2000, 1, 100)
    assert taken_back_when_full_again(Buckets(redis_server), policy).violations(policy) == 0
    broken = SCRIPT.replace("if micro > 0 and at > 0 then", "if false then")
    assert broken != SCRIPT
    assert taken_back_when_full_again(Buckets(redis_server, broken), policy).violations(policy) > 0


def taken_back_beside_a_lease(buckets, policy, slack):
    """Takes what nothing comes of, leases all there is, takes back at once, and uses everything at the last moment of the lease."""
    judge, key = Judge(), "k:{sly}"
    for sequence in range(1, 8):
        while buckets.ask([Part(key, policy)])[2][0].level < policy.burst * MICRO:
            pass
        _, _, (first,) = buckets.ask([Part(key, policy, 40, lease=policy.burst)])
        buckets.ask([Part(key, policy, pay=(40, "ab", sequence, first.time - slack, False))])
        while buckets.ask([Part(key, policy)])[1] < first.time + LEASE_US * 3 // 4:
            pass
        admitted, now, _ = buckets.ask([Part(key, policy, 60)])
        judge.note(min(now, first.time + LEASE_US), first.leased)
        if admitted:
            judge.note(now, 60)
    return judge


def test_what_is_taken_back_leaves_out_what_a_lease_may_have_cut_off(redis_server):
    policy = Policy(2000, 1, 100)
    assert taken_back_beside_a_lease(Buckets(redis_server), policy, LEASE_US).violations(policy) == 0
    for _ in range(20):  # the right instant may be missed on a busy machine
        if taken_back_beside_a_lease(Buckets(redis_server), policy, 0).violations(policy):
            return
    raise AssertionError("nothing was found")


def test_what_is_allowed_is_used_under_steady_demand(redis_server):
    """A lone gateway that leases what a lease time needs and throws the rest away loses one lease at most."""
    buckets, policy, key = Buckets(redis_server), Policy(2000, 1, 10_000), "k:{busy}"
    buckets.ask([Part(key, policy, 10_000)])
    _, begin, _ = buckets.ask([Part(key, policy)])
    used, now = 0, begin
    while now < begin + MICRO:
        _, now, (answer,) = buckets.ask([Part(key, policy, lease=40)])
        used += answer.leased
    allowed = (now - begin) * policy.num // policy.den // MICRO
    assert used >= allowed * 0.95


# ---- Settlements ----

def test_settlements_count_once_in_whatever_order_and_however_often_they_come(redis_server):
    dice = random.Random(5)
    policy = Policy(1, 1_000_000, 10 ** 9)  # nothing accrues while the test runs
    for round_ in range(10):
        buckets, key = Buckets(redis_server), f"k:{{round{round_}}}"
        buckets.ask([Part(key, policy, 5 * 10 ** 8)])
        payments = []
        for source in range(16):
            sent = [(dice.randint(-1000, 1000), f"{source:08x}", sequence, 0, False) for sequence in range(1, 6)]
            payments.append([one for payment in sent for one in [payment] * dice.randint(1, 3)])
        total = sum(payment[0] for mine in payments for payment in dict((p[2], p) for p in mine).values())
        late = [dice.choice(mine) for mine in payments]
        while any(payments):  # each source in its own order; sources in any
            mine = dice.choice([mine for mine in payments if mine])
            buckets.ask([Part(key, policy, pay=mine.pop(0))])
        for payment in late:
            buckets.ask([Part(key, policy, pay=payment[:4] + (True,))])
        _, _, (answer,) = buckets.ask([Part(key, policy)])
        assert answer.level // MICRO == 5 * 10 ** 8 + total


def test_a_repeated_settlement_of_a_forgotten_source_does_not_count(redis_server):
    buckets, policy, key = Buckets(redis_server), Policy(1, 1_000_000, 10 ** 6), "k:{many}"
    for source in range(17):
        buckets.ask([Part(key, policy, pay=(-10, f"{source + 1:x}", 7, 0, False))])
    level = buckets.ask([Part(key, policy, pay=(-10, "1", 7, 0, True))])[2][0].level
    assert level // MICRO == 10 ** 6 - 170
    level = buckets.ask([Part(key, policy, pay=(-10, "1", 8, 0, False))])[2][0].level
    assert level // MICRO == 10 ** 6 - 180


def test_what_is_paid_back_to_a_full_bucket_is_nothing_now_and_later(redis_server):
    buckets, policy, key = Buckets(redis_server), Policy(1, 1_000_000, 100), "k:{full}"
    payment = (50, "ab", 1, 0, False)
    assert buckets.ask([Part(key, policy, pay=payment)])[2][0].level == 100 * MICRO
    assert buckets.ask([Part(key, policy, 60)])[0]
    assert buckets.ask([Part(key, policy, pay=payment[:4] + (True,))])[2][0].level // MICRO == 40


def test_a_charge_without_a_policy_counts_where_there_is_a_bucket_and_makes_none(redis_server):
    buckets, policy, unknown = Buckets(redis_server), Policy(1, 1_000_000, 100), Policy(0, 1, 0, 0)
    redis_server.api.set("k:{gone}", "not a bucket")
    reply = buckets.run(keys=["k:{gone}"], args=[str(Part("k:{gone}", unknown, pay=(-5, "ab", 1, 0, False)))])
    assert reply[2] == b"0 0 0 0 0" and redis_server.api.get("k:{gone}") == b"not a bucket"
    buckets.ask([Part("k:{here}", policy, 10)])
    buckets.ask([Part("k:{here}", unknown, pay=(-5, "ab", 2, 0, False))])
    assert buckets.ask([Part("k:{here}", policy)])[2][0].level // MICRO == 85


# ---- What is stored ----

def test_values_of_before_settlements_are_read(redis_server):
    buckets, policy = Buckets(redis_server), Policy(1, 1_000_000, 100)
    now = redis_server.api.time()
    now = now[0] * MICRO + now[1]
    redis_server.api.set("k:{old}", f"{40 * MICRO} {now} 3 1 1000000 100 1")
    assert buckets.ask([Part("k:{old}", policy, 10)])[2][0].level // MICRO == 30


@pytest.mark.parametrize("value", [
    "nonsense", "", "1 2 3", "1 1 0 1 1 0 1", "1 1 5 1 5 10 1", "1 1 0 0 1 10 1", "1 1 0 1 0 10 1", "-1e9 1 0 1 1 10 1", "1 1 0 1 1 10 1 zz:1",
    "99999999999999999999 1 0 1 1 10 1", "1 99999999999999999999 0 1 1 10 1", "1 1 0 9007199254740991 9007199254740991 10 1",
    "-9007199254740000 1 0 1 1 10 1", "1 1 0 1 1 99999999999999999999 1", "1 1 0 1 1 10 99999999999999999999"])
def test_a_value_that_is_not_ours_is_as_good_as_none(redis_server, value):
    buckets, policy = Buckets(redis_server), Policy(1, 1_000_000, 100)
    redis_server.api.set("k:{odd}", value)
    assert buckets.ask([Part("k:{odd}", policy, 10)])[2][0].level == 90 * MICRO
    redis_server.api.delete("k:{odd}")
    redis_server.api.rpush("k:{odd}", "a list")
    assert buckets.ask([Part("k:{odd}", policy, 10)])[2][0].level == 90 * MICRO


def test_keys_go_when_they_would_be_full_and_not_while_a_settlement_may_come_again(redis_server):
    buckets = Buckets(redis_server)
    buckets.ask([Part("k:{fast}", Policy(1, 1, 100), 10)])
    assert 9_000 <= redis_server.api.pttl("k:{fast}") <= 11_000
    buckets.ask([Part("k:{fast}", Policy(1, 1, 100), pay=(5, "ab", 1, 0, False))])
    assert 350_000 <= redis_server.api.pttl("k:{fast}") <= 360_000
    buckets.ask([Part("k:{debt}", Policy(1, 1, 100), pay=(-1000, "ab", 1, 0, False))])
    assert 990_000 <= redis_server.api.pttl("k:{debt}") <= 1_002_000
    buckets.ask([Part("k:{refused}", Policy(1, 1, 100), 101)])
    buckets.ask([Part("k:{looked}", Policy(1, 1, 100), 1)], peek=True)
    assert not redis_server.api.exists("k:{refused}", "k:{looked}")
