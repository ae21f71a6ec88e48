// From samples to sums and their 95 % intervals: tools/model/estimator.cc in the browser, where sums are made of what is
// selected. docs/metrics.md says why so. A unit test holds the two to the same numbers.

export interface Weight { unseenBlocks: number; blocksVariance: number; unseenBytes: number; bytesVariance: number; bytes: number; blocks: number }

export function weightOfSample(size: number, sampleBytes: number): Weight {
  const s = Math.max(size, 1);
  const p = -Math.expm1(-s / sampleBytes), q = Math.exp(-s / sampleBytes);
  return {
    unseenBlocks: q / p, blocksVariance: q / (p * p), unseenBytes: s * q / p, bytesVariance: s * s * q / (p * p),
    bytes: s / p, blocks: 1 / p,
  };
}

// A sum over samples, of bytes or blocks; `seen` is certain and everything in complete mode.
export interface Amount { seen: number; unseen: number; variance: number; heaviest: number }
export interface Interval { low: number; high: number }

export function valueOf(amount: Amount): number {
  return amount.seen + amount.unseen;
}

export function roundedOf(amount: Amount): number {
  return amount.seen + Math.round(amount.unseen);
}

const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
];

function logGamma(x: number): number {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  let sum = LANCZOS[0]!;
  for (let i = 1; i < LANCZOS.length; i++) sum += LANCZOS[i]! / (x - 1 + i);
  const t = x + 6.5;
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
}

function gammaCdf(a: number, x: number): number {
  if (x <= 0) return 0;
  const logFront = a * Math.log(x) - x - logGamma(a);
  const maxTerms = 200 + Math.floor(20 * Math.sqrt(a));
  if (x < a + 1) {
    let term = 1 / a, sum = term;
    for (let i = 1; i < maxTerms && term > sum * 1e-15; i++) {
      term *= x / (a + i);
      sum += term;
    }
    return Math.min(1, sum * Math.exp(logFront));
  }
  const tiny = 1e-300;
  let b = x + 1 - a, c = 1 / tiny, d = 1 / b, h = d;
  for (let i = 1; i < maxTerms; i++) {
    const an = -i * (i - a);
    b += 2;
    d = an * d + b;
    if (Math.abs(d) < tiny) d = tiny;
    c = b + an / c;
    if (Math.abs(c) < tiny) c = tiny;
    d = 1 / d;
    h *= d * c;
    if (Math.abs(d * c - 1) < 1e-15) break;
  }
  return 1 - Math.exp(logFront) * h;
}

const LARGE_SHAPE = 1e4;
const Z_975 = 1.959963984540054;

export function gammaQuantile(shape: number, probability: 0.025 | 0.975): number {
  if (shape > LARGE_SHAPE) {
    const root = 1 - 1 / (9 * shape) + (probability === 0.975 ? Z_975 : -Z_975) / (3 * Math.sqrt(shape));
    return shape * root * root * root;
  }
  let low = 0, high = Math.max(shape, 1);
  while (gammaCdf(shape, high) < probability) high *= 2;
  for (let i = 0; i < 200 && high - low > 1e-10 * high; i++) {
    const mid = (low + high) / 2;
    if (gammaCdf(shape, mid) < probability) low = mid;
    else high = mid;
  }
  return (low + high) / 2;
}

function gammaAt(mean: number, variance: number, probability: 0.025 | 0.975): number {
  const scale = variance / mean;
  return scale * gammaQuantile(mean / scale, probability);
}

// Equal ends when nothing was left to chance.
export function interval95(amount: Amount): Interval {
  const { seen, unseen, variance } = amount;
  if (!(unseen > 0) || !(variance > 0)) return { low: seen, high: seen };
  const average = variance / unseen, heavy = Math.max(amount.heaviest, average);
  let low = seen + gammaAt(unseen + average / 2, variance + average * average / 2, 0.025);
  const high = seen + gammaAt(unseen + heavy / 2, variance + heavy * heavy / 2, 0.975);
  const p = seen / (seen + unseen);
  if (unseen * unseen / variance / (1 - p) * Math.log(p) > Math.log(0.025)) low = seen;
  return { low, high };
}
