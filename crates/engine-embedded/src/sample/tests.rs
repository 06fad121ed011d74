//! Draws over small vocabularies, where the right answer can be counted.

use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;

fn sampler(sampling: Sampling) -> Sampler {
    Sampler::new(Arc::new(sampling), 0, None, &[])
}

/// How often each token comes in many draws of independent samplers.
fn counts(sampling: &Sampling, logits: &[f32]) -> Vec<usize> {
    let mut counts = vec![0; logits.len()];
    let mut scratch = Scratch::default();
    for seed in 0..4_000 {
        let sampling = Sampling {
            seed: Some(seed),
            ..sampling.clone()
        };
        counts[sampler(sampling).next(logits, &mut scratch).unwrap() as usize] += 1;
    }
    counts
}

fn greedy() -> Sampling {
    Sampling {
        temperature: 0.0,
        ..Sampling::default()
    }
}

#[test]
fn greedy_takes_the_likeliest_and_the_first_of_equals() {
    let mut scratch = Scratch::default();
    assert_eq!(
        sampler(greedy())
            .next(&[0.0, 3.0, 3.0], &mut scratch)
            .unwrap(),
        1
    );
    assert_eq!(
        sampler(greedy())
            .next(&[f32::NAN, -5.0], &mut scratch)
            .unwrap(),
        1
    );
    let nothing = sampler(greedy()).next(&[f32::NEG_INFINITY; 3], &mut scratch);
    assert!(matches!(nothing, Err(SampleError::NoToken)));
}

#[test]
fn draws_follow_the_probabilities() {
    // e^0 : e^1 : e^2 = 0.09 : 0.24 : 0.67
    let counts = counts(&Sampling::default(), &[0.0, 1.0, 2.0]);
    assert!((280..=440).contains(&counts[0]), "{counts:?}");
    assert!((870..=1_090).contains(&counts[1]), "{counts:?}");
}

#[test]
fn temperature_flattens_or_sharpens() {
    let hot = counts(
        &Sampling {
            temperature: 2.0,
            ..Sampling::default()
        },
        &[0.0, 2.0],
    );
    let cold = counts(
        &Sampling {
            temperature: 0.5,
            ..Sampling::default()
        },
        &[0.0, 2.0],
    );
    assert!(hot[0] > 3 * cold[0], "{hot:?} {cold:?}");
}

#[test]
fn each_limit_keeps_the_tokens_it_should() {
    let logits = [0.0, 1.0, 2.0, 3.0];
    let zero = |counts: &[usize]| counts.iter().map(|count| *count == 0).collect::<Vec<_>>();
    let two = Sampling {
        top_k: NonZeroUsize::new(2),
        ..Sampling::default()
    };
    assert_eq!(zero(&counts(&two, &logits)), [true, true, false, false]);
    // 0.03, 0.09, 0.24, 0.64
    let nucleus = Sampling {
        top_p: 0.65,
        ..Sampling::default()
    };
    assert_eq!(zero(&counts(&nucleus, &logits)), [true, true, false, false]);
    let one = Sampling {
        top_p: 0.6,
        ..Sampling::default()
    };
    assert_eq!(zero(&counts(&one, &logits)), [true, true, true, false]);
    let near = Sampling {
        min_p: 0.1,
        ..Sampling::default()
    };
    assert_eq!(zero(&counts(&near, &logits)), [true, false, false, false]);
}

#[test]
fn penalties_count_the_answer() {
    let mut scratch = Scratch::default();
    let mut frequency = sampler(Sampling {
        frequency_penalty: 1.0,
        ..greedy()
    });
    let logits = [0.0, 2.5];
    let tokens: Vec<u32> = (0..4)
        .map(|_| frequency.next(&logits, &mut scratch).unwrap())
        .collect();
    assert_eq!(tokens, [1, 1, 1, 0]);
    let mut presence = sampler(Sampling {
        presence_penalty: 2.0,
        ..greedy()
    });
    assert_eq!(presence.next(&[0.0, 1.0], &mut scratch).unwrap(), 1);
    assert_eq!(presence.next(&[0.0, 1.0], &mut scratch).unwrap(), 0);
}

#[test]
fn a_repetition_penalty_counts_the_prompt_too() {
    let sampling = Arc::new(Sampling {
        repetition_penalty: 2.0,
        ..greedy()
    });
    let mut sampler = Sampler::new(sampling, 0, None, &[1]);
    assert_eq!(
        sampler.next(&[1.5, 2.0], &mut Scratch::default()).unwrap(),
        0
    );
}

#[test]
fn a_bias_forces_or_forbids() {
    let mut scratch = Scratch::default();
    let forced = Sampling {
        logit_bias: vec![(0, 100.0)],
        ..greedy()
    };
    assert_eq!(sampler(forced).next(&[0.0, 5.0], &mut scratch).unwrap(), 0);
    let forbidden = Sampling {
        logit_bias: vec![(1, -100.0)],
        ..Sampling::default()
    };
    assert_eq!(counts(&forbidden, &[0.0, 5.0])[1], 0);
}

#[test]
fn equal_seeds_draw_equal_tokens_and_choices_differ() {
    let draw = |choice| {
        let sampling = Arc::new(Sampling {
            seed: Some(7),
            ..Sampling::default()
        });
        let mut sampler = Sampler::new(sampling, choice, None, &[]);
        let mut scratch = Scratch::default();
        (0..50)
            .map(|_| sampler.next(&[0.0; 100], &mut scratch).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(draw(0), draw(0));
    assert_ne!(draw(0), draw(1));
}

proptest! {
    #[test]
    fn log_probabilities_sum_to_one(
        logits in prop::collection::vec(-30.0..30.0_f32, 1..50),
        token in 0..50_usize,
    ) {
        let token = u32::try_from(token % logits.len()).unwrap();
        let (chosen, all) = log_probabilities(&logits, token, logits.len());
        let sum: f64 = all.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
        prop_assert!((sum - 1.0).abs() < 1e-4);
        prop_assert!(all.is_sorted_by(|a, b| a.1 >= b.1));
        let found = all.iter().find(|(id, _)| *id == token).map(|(_, logprob)| *logprob);
        prop_assert_eq!(found, Some(chosen));
    }

    #[test]
    fn a_nucleus_is_the_smallest_that_is_enough(
        logits in prop::collection::vec(-8.0..8.0_f32, 1..300),
        part in 0.01..0.999_f64,
    ) {
        let mut nucleus: Vec<(f32, u32)> = (0..).zip(&logits).map(|(i, l)| (l.exp(), i)).collect();
        let whole: f64 = nucleus.iter().map(|(weight, _)| f64::from(*weight)).sum();
        keep_nucleus(&mut nucleus, part);
        let kept: f64 = nucleus.iter().map(|(weight, _)| f64::from(*weight)).sum();
        prop_assert!(kept >= whole * part * (1.0 - 1e-9));
        let least = nucleus.iter().map(|(weight, _)| f64::from(*weight)).fold(f64::MAX, f64::min);
        prop_assert!(kept - least < whole * part);
    }
}
