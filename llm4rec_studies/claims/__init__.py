"""Test what papers and surveys claim against finished runs: one verdict for each test and dataset.

`claims.yaml` holds the claims as data: the wording, which runs test them, and a rule with its margin, fixed before the
runs that it judges. `spec` reads it, `select` picks the runs, `verdict` decides and `render` puts results into words.

A rule is about B, compared with A or with a number of B's own run:

    superior       B is better than A by more than the margin
    not_inferior   B is not worse than A by more than the margin
    equivalent     B and A differ by less than the margin
    inferior       B is worse than A by more than the margin
    above          a metric of B exceeds another of its metrics, or a fixed value, by more than the margin
    preferred      people rank B's texts ahead of those of all other systems by more than the margin

The confidence interval decides. It is over users and seeds, of paired values where two models are compared: 95 % for
`superior`, `inferior` and `preferred`; 90 % for `not_inferior` and `equivalent`, which amounts to one-sided tests at
5 %. Of a metric that only a whole run has, such as a diversity, it is over seeds alone. A claim is supported if the
whole interval lies on the claim's side of the margin and not supported if it lies on the other side. It is inconclusive
if the interval crosses the margin. A percentage margin is relative to A's mean, and compared with the interval of the
ratio of the means.

- Trained models need at least three seeds on each side. With fewer, the test is inconclusive. One run suffices for a
  model without training, such as a floor or a chat model, whose seed only draws the candidates' order for each user.
- Where `above` has no interval, as for shares of listed titles, the value itself decides, of at least a hundred
  examples.
- Runs on synthetic data do not count. If there are no others, the test is not run. Their numbers are shown without a
  verdict.
- A side without `model.tokens` means a model that uses no tokens.
- Labels listed under `untestable` (a backbone other than the claim's, a head that was never trained) make a run no test
  of the claim, whatever its numbers. The data state the reason.
- If several runs qualify, those without such labels come first, then those with more examples, more seeds, and the
  newest. If the claim is about the best A (`best: true`), ties go to the A with the best test metric, which is the
  hardest to beat.
- Comparisons of a `family` (a paper's claims, in all their tests and datasets) are corrected together by Holm's method:
  a claim that only the uncorrected interval supports is inconclusive. `above` and `preferred` have no such p, and "not
  supported" is not corrected.
- A verdict holds under the split of its runs, which is named with it: "supported under leave-one-out" says nothing of a
  split in time.
"""
