//! Tokens, stop texts and log probabilities of an answer.

use super::*;

fn answer(stop: &[&str], top_logprobs: Option<usize>) -> Answer {
    let job = gpu::Job {
        id: 0,
        priority: 0,
        blocks: Vec::new(),
        prompt_tokens: 5,
        answer_tokens: 9,
    };
    Answer::new(&Prepared {
        job,
        choices: 2,
        reason: FinishReason::Length,
        stop: stop.iter().map(|text| (*text).to_owned()).collect(),
        top_logprobs,
        echo: None,
        deadline: None,
    })
}

#[test]
fn every_token_is_said_at_once() {
    let mut answer = answer(&[], Some(3));
    for (text, id) in [("simulated", 0), (" tokens", 1)] {
        let said = answer.produce(1);
        let delta = said.delta.unwrap();
        assert_eq!((delta.content.as_str(), delta.choice), (text, 1));
        assert_eq!((delta.token_ids, said.stopped), (vec![id], false));
        assert_eq!(delta.logprobs[0].token.bytes, text.as_bytes());
        assert_eq!(delta.logprobs[0].top.len(), 1);
    }
    assert_eq!(answer.produce(0).delta.unwrap().content, "simulated");
    let (rest, reason) = answer.finish(0);
    assert!(rest.is_none() && reason == FinishReason::Length);
}

#[test]
fn a_stop_text_ends_it_and_every_token_is_counted() {
    let mut answer = answer(&["s in"], None);
    let (mut text, mut tokens) = (String::new(), 0);
    let mut stopped = false;
    while !stopped {
        let said = answer.produce(0);
        stopped = said.stopped;
        if let Some(delta) = said.delta {
            text += &delta.content;
            tokens += delta.token_ids.len();
        }
    }
    assert_eq!((text.as_str(), tokens), ("simulated token", 3));
}

#[test]
fn what_was_held_back_comes_at_the_end() {
    let mut answer = answer(&["simulated never"], None);
    assert!(answer.produce(0).delta.is_none());
    let (rest, _) = answer.finish(0);
    let rest = rest.unwrap();
    assert_eq!(
        (rest.content.as_str(), rest.token_ids),
        ("simulated", vec![0])
    );
}
