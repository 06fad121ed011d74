//! How many tokens of the next step each sequence gets: pure arithmetic.

/// The next step: tokens to compute, for each sequence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BatchPlan {
    /// In the order of the sequences; 0: the sequence takes no part in the step.
    pub(crate) tokens: Vec<usize>,
    /// The cache has no cell for a running answer, or for any prompt: an answer must be preempted.
    pub(crate) starved: bool,
}

/// Plans one step.
///
/// `remaining` has the tokens that each sequence still has to compute before its next token can be
/// chosen, oldest first; 0: it is paused. Answers that wait for one token come first, so that a long
/// prompt stalls nobody. What is left of the batch goes to prompts in equal parts: a short prompt
/// does not wait behind a huge one, and what it does not need goes to the others.
pub(crate) fn plan(remaining: &[usize], batch: usize, cells: usize) -> BatchPlan {
    let mut tokens = vec![0; remaining.len()];
    let mut left = batch.min(cells);
    let mut starved = false;
    for (given, _) in tokens
        .iter_mut()
        .zip(remaining)
        .filter(|(_, remaining)| **remaining == 1)
    {
        if left == 0 {
            starved |= cells < batch;
            break;
        }
        *given = 1;
        left -= 1;
    }
    let mut prompts: Vec<usize> = (0..remaining.len()).filter(|i| remaining[*i] > 1).collect();
    // The smallest first, so that what they leave is known when the bigger ones are served.
    prompts.sort_by_key(|i| remaining[*i]);
    let count = prompts.len();
    for (served, i) in prompts.into_iter().enumerate() {
        let share = left.div_ceil(count - served);
        tokens[i] = share.min(remaining[i]).min(left);
        left -= tokens[i];
    }
    let active = remaining.iter().any(|remaining| *remaining > 0);
    starved |= active && tokens.iter().all(|tokens| *tokens == 0);
    BatchPlan { tokens, starved }
}

/// How the tokens of a step are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchMode {
    /// All in one pass, so that the weights are read once: right for a GPU.
    Mixed,
    /// Each sequence in a pass of its own. On a CPU, llama.cpp skips the cells of others where a pass has fewer
    /// than 64 rows, or where neighbouring rows look at the same cells; a mix of many sequences
    /// attends to the cells of all of them.
    Separate,
}

/// The most single rows of a pass in which each of them skips the cells of others by itself.
const MOST_SINGLE_ROWS: usize = 63;

/// Cuts a step into passes over the sequences that take part in it: first the answers that get their
/// next token, then the prompts.
pub(crate) fn passes(tokens: &[usize], batch_mode: BatchMode) -> Vec<Vec<usize>> {
    let of = |wanted: fn(usize) -> bool| {
        let indices = 0..tokens.len();
        indices.filter(|i| wanted(tokens[*i])).collect::<Vec<_>>()
    };
    match batch_mode {
        BatchMode::Mixed => vec![of(|count| count > 0)],
        BatchMode::Separate => {
            let answers = of(|count| count == 1);
            let chunks = answers.len().div_ceil(MOST_SINGLE_ROWS).max(1);
            let even = answers.len().div_ceil(chunks).max(1);
            let answers = answers.chunks(even).map(<[usize]>::to_vec);
            let prompts = of(|count| count > 1).into_iter().map(|prompt| vec![prompt]);
            answers.chain(prompts).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(remaining: &[usize], batch: usize, cells: usize, expect: &[usize], starved: bool) {
        assert_eq!(
            plan(remaining, batch, cells),
            BatchPlan {
                tokens: expect.to_vec(),
                starved
            }
        );
    }

    #[test]
    fn passes_keep_sequences_apart_on_a_cpu_and_together_on_a_gpu() {
        let tokens = [1, 30, 0, 1, 200];
        assert_eq!(passes(&tokens, BatchMode::Mixed), [vec![0, 1, 3, 4]]);
        assert_eq!(
            passes(&tokens, BatchMode::Separate),
            [vec![0, 3], vec![1], vec![4]]
        );
        let many = passes(&[1; 100], BatchMode::Separate);
        let lengths: Vec<usize> = many.iter().map(Vec::len).collect();
        assert_eq!(lengths, [50, 50]);
    }

    #[test]
    fn answers_come_before_prompts() {
        check(&[100, 1, 1], 10, 1_000, &[8, 1, 1], false);
    }

    #[test]
    fn prompts_share_what_is_left() {
        check(&[100, 100], 10, 1_000, &[5, 5], false);
        check(&[100, 2], 10, 1_000, &[8, 2], false);
        check(&[100, 3, 1], 4, 1_000, &[1, 2, 1], false);
    }

    #[test]
    fn paused_sequences_get_nothing() {
        check(&[0, 5, 0], 10, 1_000, &[0, 5, 0], false);
        check(&[0, 0], 10, 0, &[0, 0], false);
    }

    #[test]
    fn too_few_cells_starve() {
        check(&[1, 1, 1], 10, 2, &[1, 1, 0], true);
        check(&[1, 50], 10, 1, &[1, 0], false);
        check(&[50, 50], 10, 0, &[0, 0], true);
    }

    proptest! {
        #[test]
        fn a_plan_keeps_its_limits(
            remaining in prop::collection::vec(0..600_usize, 0..40),
            batch in 40..600_usize,
            cells in 0..2_000_usize,
        ) {
            let plan = plan(&remaining, batch, cells);
            let sum: usize = plan.tokens.iter().sum();
            prop_assert!(sum <= batch && sum <= cells);
            for (tokens, remaining) in plan.tokens.iter().zip(&remaining) {
                prop_assert!(tokens <= remaining);
            }
            if !plan.starved {
                let waiting = remaining.iter().any(|remaining| *remaining > 0);
                prop_assert!(!waiting || sum > 0, "progress is made");
                let all_decode = plan.tokens.iter().zip(&remaining).all(|(t, r)| *r != 1 || *t == 1);
                prop_assert!(all_decode, "no answer waits");
                let wanted: usize = remaining.iter().sum();
                prop_assert_eq!(sum, wanted.min(batch).min(cells), "the batch is used");
            }
        }
    }
}
