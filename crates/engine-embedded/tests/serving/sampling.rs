//! How tokens are chosen: seeds, choices, biases, penalties, and their probabilities.

use inferyard_proto::worker::v1 as wire;

use crate::harness::{Choice, Server, chat, greedy, read};

fn random(message: &str, seed: i64) -> wire::GenerateRequest {
    let sampling = wire::Sampling {
        temperature: Some(2.0),
        seed: Some(seed),
        ..Default::default()
    };
    wire::GenerateRequest {
        sampling: Some(sampling),
        max_tokens: Some(60),
        ..chat(message)
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_text() {
    let server = Server::start().await;
    let first = server.text(random("Tell me something", 7)).await;
    assert_eq!(server.text(random("Tell me something", 7)).await, first);
    assert_ne!(server.text(random("Tell me something", 8)).await, first);
}

#[tokio::test]
async fn whatever_ran_before_the_same_seed_gives_the_same_text() {
    let server = Server::start().await;
    let long = "Nothing is as it was. ".repeat(50);
    // A few rows, a few tiles of rows, several batches: each is computed in a way of its own.
    let asked = ["Tell me", &long[..300], &long];
    let mut expected = Vec::new();
    for message in asked {
        expected.push(server.text(random(message, 7)).await);
    }
    for round in 1..8 {
        // They run side by side, begin like each other and like what is asked, and leave gaps.
        let mut others = Vec::new();
        for other in 0..round {
            let request = wire::GenerateRequest {
                max_tokens: Some(1 + 40 * other),
                ..chat(&long[..50 + 100 * other as usize])
            };
            others.push(server.send(request).await);
        }
        for other in others {
            read(other).await;
        }
        for (message, expected) in asked.iter().zip(&expected) {
            let text = server.text(random(message, 7)).await;
            assert_eq!(text, *expected, "in round {round}");
        }
    }
}

#[tokio::test]
async fn choices_are_independent_and_their_seeds_follow_each_other() {
    let server = Server::start().await;
    let request = wire::GenerateRequest {
        choices: 3,
        ..random("Tell me something", 100)
    };
    let answer = server.ask(request).await;
    assert_eq!(answer.choices.len(), 3);
    let texts: Vec<String> = answer
        .choices
        .into_values()
        .map(|choice| choice.content)
        .collect();
    assert!(texts[0] != texts[1] && texts[1] != texts[2]);
    for (seed, expected) in (100..).zip(texts) {
        assert_eq!(
            server.text(random("Tell me something", seed)).await,
            expected
        );
    }
}

#[tokio::test]
async fn greedy_choices_are_all_the_same_and_the_prompt_counts_once() {
    let server = Server::start().await;
    let alone = server.ask(chat("Reply with: again")).await.usage.unwrap();
    let answer = server
        .ask(wire::GenerateRequest {
            choices: 4,
            ..chat("Reply with: again")
        })
        .await;
    let usage = answer.usage.unwrap();
    assert_eq!(usage.prompt_tokens, alone.prompt_tokens);
    assert_eq!(usage.completion_tokens, 4 * alone.completion_tokens);
    assert_eq!(answer.choices.len(), 4);
    assert!(
        answer
            .choices
            .values()
            .all(|choice| choice.content == "again")
    );
}

fn check_logprobs(choice: &Choice, top: usize) {
    let tokens = choice
        .logprobs
        .iter()
        .map(|one| one.token.as_ref().unwrap());
    let text: Vec<u8> = tokens
        .clone()
        .flat_map(|token| token.bytes.to_vec())
        .collect();
    assert_eq!(text, choice.content.as_bytes());
    for (one, token) in choice.logprobs.iter().zip(tokens) {
        assert!(token.logprob <= 0.0);
        assert_eq!(one.top.len(), top);
        assert!(one.top.is_sorted_by(|a, b| a.logprob >= b.logprob));
        let sum: f32 = one.top.iter().map(|token| token.logprob.exp()).sum();
        assert!(sum <= 1.001, "{sum}");
        // Greedy: the chosen token is the likeliest.
        assert!(one.top.first().is_none_or(|best| best == token));
    }
}

#[tokio::test]
async fn log_probabilities_are_of_the_tokens_said() {
    let server = Server::start().await;
    for top in [0, 1, 20] {
        let request = wire::GenerateRequest {
            top_logprobs: Some(top),
            ..chat("Reply with: Zürich 42")
        };
        check_logprobs(&server.ask(request).await.only(), top as usize);
    }
    assert!(
        server
            .ask(chat("Reply with: x"))
            .await
            .only()
            .logprobs
            .is_empty()
    );
}

#[tokio::test]
async fn a_bias_forbids_or_forces_a_token() {
    let server = Server::start().await;
    let plain = server.ask(chat("Reply with: abc")).await.only();
    let biased = |token, bias| {
        let logit_bias = vec![wire::LogitBias { token, bias }];
        let sampling = wire::Sampling {
            logit_bias,
            ..greedy()
        };
        wire::GenerateRequest {
            sampling: Some(sampling),
            max_tokens: Some(8),
            ..chat("Reply with: abc")
        }
    };
    let forbidden = server.ask(biased(plain.tokens[0], -100.0)).await.only();
    assert!(!forbidden.tokens.contains(&plain.tokens[0]));
    let forced = server.ask(biased(plain.tokens[1], 100.0)).await.only();
    assert_eq!(forced.content, "bbbbbbbb");
}

#[tokio::test]
async fn a_penalty_ends_repetition() {
    let server = Server::start().await;
    let request = |frequency_penalty| {
        let sampling = wire::Sampling {
            frequency_penalty,
            ..greedy()
        };
        let mut request = chat("Repeat: a");
        request.sampling = Some(sampling);
        request.max_tokens = Some(64);
        request
    };
    let most = |choice: &Choice| {
        choice
            .tokens
            .iter()
            .map(|a| choice.tokens.iter().filter(|b| *b == a).count())
            .max()
    };
    let plain = server.ask(request(None)).await.only();
    let penalised = server.ask(request(Some(2.0))).await.only();
    assert!(most(&penalised) < most(&plain));
}
