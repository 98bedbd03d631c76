"""The judge of the property tests: a model of the bucket that knows nothing of how Sallyport makes it true.

A caller's requests are admitted at instants nobody outside sees. What is seen: each was admitted after its client sent it and before it
arrived at the backend. The judge counts in an interval only what was surely admitted within it, so that whatever it calls too much is too
much, however slow the machine: no tolerance is added to that.

Whole numbers throughout: nanoseconds, and billionths of a token, of which a rate of R tokens a second allows R each nanosecond."""

UNIT = 10**9
LEASE_NS = 100_000_000  # LIMITS: tokens leased ahead die so long after the request for them was sent
NEVER = float("-inf")


class Admission:
    def __init__(self, sent_ns, arrived_ns, cost=1):
        self.sent, self.arrived, self.cost = sent_ns, arrived_ns, cost


class Allowance:
    """What LIMITS.md allows in an interval [s, t]: burst + rate * (t - s), where both may change and Redis may lose what it knew."""

    def __init__(self, rate, burst):
        self.pieces = [(NEVER, rate, burst)]
        self.gifts = []

    def change(self, began_ns, ended_ns, rate, burst):
        """A reload, not in force before `began`, in force everywhere at `ended`. In between either policy may be; and what was leased
        under the old one may be used for as long as leases live, while the bucket already earns at the new rate."""
        _, old_rate, old_burst = self.pieces[-1]
        faster = max(rate - old_rate, 0) * LEASE_NS // UNIT + 1 if rate > old_rate else 0
        self.pieces.append((began_ns, max(rate, old_rate), max(burst, old_burst) + faster))
        self.pieces.append((ended_ns + LEASE_NS, rate, burst))

    def emptied(self, began_ns, ended_ns):
        """Redis forgot the bucket at some instant in between: a missing key begins full. What was leased from the old one lives on."""
        self.gifts.append((began_ns, ended_ns + LEASE_NS, max(burst for _, _, burst in self.pieces)))

    def burst(self, at):
        return next(burst for since, _, burst in reversed(self.pieces) if since <= at) * UNIT

    def _earned(self, at):
        total = 0
        for i, (since, rate, _) in enumerate(self.pieces):
            until = self.pieces[i + 1][0] if i + 1 < len(self.pieces) else at
            total += rate * max(min(until, at) - max(since, 0), 0)
        return total

    def until(self, t):
        """until(t) - since(s) is what [s, t] allows beyond the burst."""
        return self._earned(t) + UNIT * sum(gift for began, _, gift in self.gifts if began <= t)

    def since(self, s):
        return self._earned(s) + UNIT * sum(gift for _, ended, gift in self.gifts if ended < s)


class Verdict:
    """The interval in which most was admitted, measured against what was allowed."""

    def __init__(self, over, s, t, counted):
        self.over, self.s, self.t, self.counted = over, s, t, counted

    @property
    def fair(self):
        return self.over <= 0

    def __str__(self):
        return (f"{self.counted} surely admitted within {(self.t - self.s) / 1e6:.3f} ms [{self.s}, {self.t}]: "
                f"{self.over / UNIT:+.3f} of what is allowed")


class _Sums:
    """Gains at places in a row. What the best sum from the front to a place that counts is, and where."""

    def __init__(self, gains):
        self.size = 1
        while self.size < len(gains):
            self.size *= 2
        self.gains = gains
        self.sum = [0] * (2 * self.size)
        self.best = [(NEVER, 0)] * (2 * self.size)
        self.sum[self.size:self.size + len(gains)] = gains
        for node in range(self.size - 1, 0, -1):
            self._join(node)

    def _join(self, node):
        left, right = 2 * node, 2 * node + 1
        self.sum[node] = self.sum[left] + self.sum[right]
        beyond, place = self.best[right]
        self.best[node] = max(self.best[left], (self.sum[left] + beyond, place))

    def count(self, place, gain):
        node = self.size + place
        self.sum[node] += gain
        self.best[node] = (self.sum[node], place)
        while node > 1:
            node //= 2
            self._join(node)

    def most(self):
        return self.best[1]


def judge(admissions, allowance):
    """Every interval [s, t] is looked at: those that begin when something was sent and end when something arrived are the ones that count."""
    by_arrival = sorted(admissions, key=lambda one: one.arrived)
    places = {id(one): place for place, one in enumerate(by_arrival)}
    until = [allowance.until(one.arrived) for one in by_arrival]
    sums = _Sums([(until[i - 1] if i else 0) - until[i] for i in range(len(until))])
    worst = Verdict(NEVER, 0, 0, 0)
    for one in sorted(admissions, key=lambda one: -one.sent):
        sums.count(places[id(one)], one.cost * UNIT)
        sum_, place = sums.most()
        over = sum_ + allowance.since(one.sent) - allowance.burst(one.sent)
        if over > worst.over:
            worst = Verdict(over, one.sent, by_arrival[place].arrived, 0)
    worst.counted = sum(one.cost for one in admissions if one.sent >= worst.s and one.arrived <= worst.t)
    return worst


def judge_slowly(admissions, allowance):
    """The same by looking at each interval, one by one: the judge's own judge."""
    worst = NEVER
    for s in {one.sent for one in admissions}:
        for t in {one.arrived for one in admissions if one.arrived >= s}:
            counted = sum(one.cost for one in admissions if one.sent >= s and one.arrived <= t)
            if counted:
                worst = max(worst, counted * UNIT - allowance.until(t) + allowance.since(s) - allowance.burst(s))
    return worst


class Bucket:
    """The bucket of LIMITS.md, asked in order: what must be left after these takes and settlements, in billionths of a token."""

    def __init__(self, rate, burst):
        self.rate, self.burst, self.level, self.at = rate, burst * UNIT, burst * UNIT, None

    def advance(self, now_ns):
        if self.at is not None:
            self.level = min(self.burst, self.level + self.rate * max(now_ns - self.at, 0))
        self.at = now_ns

    def take(self, now_ns, cost):
        self.advance(now_ns)
        if self.level < cost * UNIT:
            return False
        self.level -= cost * UNIT
        return True

    def settle(self, now_ns, delta):
        self.advance(now_ns)
        self.level = min(self.burst, self.level + delta * UNIT)
