//! The ledger against a simple model of it: the same moves, counted the slow way.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

fn salt(salt: &str) -> Arc<str> {
    Arc::from(salt)
}

fn no_blocks() -> Arc<[Block]> {
    Arc::from([])
}

/// Opens and fills a sequence; says how much of it was shared.
fn fill(allocator: &mut KvAllocator, of: &str, tokens: &[Token]) -> (SequenceId, usize) {
    let held = allocator.find(of, tokens);
    let id = allocator.open(salt(of), no_blocks(), held);
    assert!(allocator.reserve(tokens.len() - held.length));
    allocator.extend(id, &tokens[held.length..]);
    (id, held.length)
}

#[test]
fn a_prefix_is_shared_and_its_cells_count_once() {
    let mut allocator = KvAllocator::new(100, 100, 4);
    let (first, _) = fill(&mut allocator, "a", &[1, 2, 3, 4]);
    let (second, shared) = fill(&mut allocator, "a", &[1, 2, 3, 5, 6]);
    assert_eq!(shared, 3);
    assert_eq!((allocator.used(), allocator.cached()), (6, 0));
    allocator.retain(first);
    assert_eq!((allocator.used(), allocator.cached()), (6, 1));
    allocator.close(second);
    assert_eq!((allocator.used(), allocator.cached()), (4, 4));
}

#[test]
fn the_last_token_is_always_computed() {
    let mut allocator = KvAllocator::new(100, 100, 4);
    let (first, _) = fill(&mut allocator, "a", &[1, 2, 3]);
    allocator.retain(first);
    assert_eq!(allocator.find("a", &[1, 2, 3]).length, 2);
    assert_eq!(allocator.find("a", &[1]).length, 0);
}

#[test]
fn another_salt_shares_nothing() {
    let mut allocator = KvAllocator::new(100, 100, 4);
    fill(&mut allocator, "a", &[1, 2, 3]);
    assert_eq!(allocator.find("b", &[1, 2, 3]).length, 0);
}

#[test]
fn what_a_window_has_left_is_not_begun_with() {
    let mut allocator = KvAllocator::new(100, 100, 4).with_window(Some(3));
    let (id, _) = fill(&mut allocator, "a", &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    allocator.retain(id);
    let found = |allocator: &KvAllocator, length: usize| {
        let mut tokens: Vec<Token> = (1..).take(length).collect();
        tokens.push(100);
        allocator.find("a", &tokens).length
    };
    assert_eq!(found(&allocator, 2), 2);
    allocator.update_first_held(|_| 5);
    // The token at position 7 sees those at 5 and 6; the one before sees one that is gone.
    assert_eq!([found(&allocator, 7), found(&allocator, 6)], [7, 0]);
    // A sequence that begins with it does not hold more.
    let (other, shared) = fill(&mut allocator, "a", &[1, 2, 3, 4, 5, 6, 7, 10, 11]);
    assert_eq!(shared, 7);
    allocator.close(id);
    assert_eq!([found(&allocator, 7), found(&allocator, 6)], [7, 0]);
    allocator.update_first_held(|slot| usize::from(slot == other));
    assert_eq!([found(&allocator, 3), found(&allocator, 2)], [3, 0]);
}

#[test]
fn without_a_known_window_only_what_is_whole_is_begun_with() {
    let mut allocator = KvAllocator::new(100, 100, 4);
    let (id, _) = fill(&mut allocator, "a", &[1, 2, 3, 4]);
    allocator.retain(id);
    allocator.update_first_held(|_| 1);
    assert_eq!(allocator.find("a", &[1, 2, 3, 4, 5]).length, 0);
    allocator.update_first_held(|_| 0);
    assert_eq!(allocator.find("a", &[1, 2, 3, 4, 5]).length, 4);
}

#[test]
fn the_least_recently_used_goes_first() {
    let mut allocator = KvAllocator::new(6, 6, 8);
    for tokens in [[1, 1], [2, 2], [3, 3]] {
        let (id, _) = fill(&mut allocator, "a", &tokens);
        allocator.retain(id);
    }
    // Uses the first one again.
    let (id, shared) = fill(&mut allocator, "a", &[1, 1]);
    assert_eq!(shared, 1);
    allocator.close(id);
    assert_eq!(allocator.find("a", &[2, 2]).length, 0);
    assert_eq!(allocator.find("a", &[1, 1]).length, 1);
    assert_eq!(allocator.find("a", &[3, 3]).length, 1);
}

#[test]
fn only_the_longer_of_two_conversations_is_kept() {
    let mut allocator = KvAllocator::new(100, 100, 8);
    let (short, _) = fill(&mut allocator, "a", &[1, 2, 3]);
    allocator.retain(short);
    let (long, _) = fill(&mut allocator, "a", &[1, 2, 3, 4]);
    allocator.retain(long);
    let (again, _) = fill(&mut allocator, "a", &[1, 2, 3]);
    allocator.retain(again);
    assert_eq!(allocator.sequences.iter().flatten().count(), 1);
    assert_eq!(allocator.used(), 4);
}

#[test]
fn the_newest_kept_sequence_stays_and_others_within_the_limit() {
    let mut allocator = KvAllocator::new(100, 5, 8);
    for tokens in [vec![1; 3], vec![2; 2], vec![3; 3], vec![4; 20]] {
        let (id, _) = fill(&mut allocator, "a", &tokens);
        allocator.retain(id);
        let kept: usize = allocator
            .sequences
            .iter()
            .flatten()
            .map(|kept| kept.tokens.len())
            .sum();
        assert_eq!(allocator.cached(), kept);
        assert!(kept <= 5 || kept == tokens.len());
    }
    assert_eq!(allocator.cached(), 20);
}

#[test]
fn blocks_come_with_their_tokens_and_go_with_their_last_holder() {
    let blocks: Arc<[Block]> = Arc::from([Block { hash: 7, end: 2 }, Block { hash: 8, end: 4 }]);
    let mut allocator = KvAllocator::new(100, 100, 4);
    let id = allocator.open(salt("a"), Arc::clone(&blocks), PrefixMatch::default());
    assert!(allocator.reserve(4));
    allocator.extend(id, &[1, 2, 3]);
    assert_eq!(allocator.take_changes(), [PrefixChange::Added(7)]);
    allocator.extend(id, &[4]);
    assert_eq!(allocator.take_changes(), [PrefixChange::Added(8)]);
    let fork = allocator.fork(id);
    allocator.close(id);
    assert_eq!(allocator.take_changes(), []);
    allocator.close(fork);
    assert_eq!(
        allocator.take_changes(),
        [PrefixChange::Removed(7), PrefixChange::Removed(8)]
    );
}

#[test]
fn a_fork_costs_no_cells() {
    let mut allocator = KvAllocator::new(100, 100, 4);
    let (id, _) = fill(&mut allocator, "a", &[1, 2, 3]);
    allocator.take_actions();
    let fork = allocator.fork(id);
    assert_eq!(allocator.used(), 3);
    assert_eq!(
        allocator.take_actions(),
        [Action::Share {
            from: id,
            to: fork,
            length: 3
        }]
    );
}

#[derive(Clone, Debug)]
enum Move {
    Open(u8, Vec<Token>),
    Fork(usize),
    Extend(usize, Vec<Token>),
    Keep(usize),
    Close(usize),
    ForgetKept,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let tokens = || prop::collection::vec(0..2_i32, 1..6);
    let one = prop_oneof![
        (0..2_u8, tokens()).prop_map(|(salt, tokens)| Move::Open(salt, tokens)),
        (0..8_usize).prop_map(Move::Fork),
        (0..8_usize, tokens()).prop_map(|(which, tokens)| Move::Extend(which, tokens)),
        (0..8_usize).prop_map(Move::Keep),
        (0..8_usize).prop_map(Move::Close),
        Just(Move::ForgetKept),
    ];
    prop::collection::vec(one, 1..60)
}

/// The real cache, as the actions leave it: the cells of each sequence, named by who wrote them.
#[derive(Default)]
struct Cache {
    sequences: BTreeMap<SequenceId, Vec<(usize, Token)>>,
    written: usize,
}

impl Cache {
    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Share { from, to, length } => {
                    let shared = self.sequences[&from][..length].to_vec();
                    let before = self.sequences.insert(to, shared);
                    assert!(
                        before.is_none_or(|cells| cells.is_empty()),
                        "shares into a used one"
                    );
                }
                Action::Clear(id) => {
                    self.sequences.remove(&id);
                }
            }
        }
    }

    fn write(&mut self, id: SequenceId, tokens: &[Token]) {
        for token in tokens {
            self.written += 1;
            self.sequences
                .entry(id)
                .or_default()
                .push((self.written, *token));
        }
    }

    fn used(&self) -> usize {
        self.sequences
            .values()
            .flatten()
            .map(|(cell, _)| cell)
            .collect::<HashSet<_>>()
            .len()
    }
}

const CELLS: usize = 24;
const RUNNING: usize = 4;

struct Play {
    allocator: KvAllocator,
    cache: Cache,
    running: Vec<(SequenceId, Vec<Token>)>,
}

impl Play {
    fn make(&mut self, one: Move) {
        let Self {
            allocator,
            cache,
            running,
        } = self;
        match one {
            Move::Open(of, tokens) if running.len() < RUNNING => {
                let of = of.to_string();
                let held = allocator.find(&of, &tokens);
                if KvAllocator::needed(tokens.len(), held) > allocator.available() {
                    return;
                }
                let id = allocator.open(salt(&of), no_blocks(), held);
                assert!(
                    allocator.reserve(tokens.len() - held.length),
                    "what fits can be reserved"
                );
                allocator.extend(id, &tokens[held.length..]);
                cache.obey(allocator.take_actions());
                cache.write(id, &tokens[held.length..]);
                running.push((id, tokens));
            }
            Move::Fork(which) if which < running.len() && running.len() < RUNNING => {
                let id = allocator.fork(running[which].0);
                running.push((id, running[which].1.clone()));
            }
            Move::Extend(which, tokens) if which < running.len() => {
                if !allocator.reserve(tokens.len()) {
                    assert!(allocator.available() < tokens.len());
                    return;
                }
                allocator.extend(running[which].0, &tokens);
                cache.obey(allocator.take_actions());
                cache.write(running[which].0, &tokens);
                running[which].1.extend(tokens);
            }
            Move::Keep(which) if which < running.len() => allocator.retain(running.remove(which).0),
            Move::Close(which) if which < running.len() => allocator.close(running.remove(which).0),
            Move::ForgetKept => {
                allocator.evict_cached();
                assert_eq!(allocator.cached(), 0);
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        self.cache.obey(self.allocator.take_actions());
        for (id, tokens) in &self.running {
            let held = self.cache.sequences.get(id).into_iter().flatten();
            let held: Vec<Token> = held.map(|(_, token)| *token).collect();
            assert_eq!(held, *tokens, "a running sequence holds exactly its tokens");
        }
        assert_eq!(
            self.allocator.used(),
            self.cache.used(),
            "cells are counted exactly"
        );
        assert!(self.allocator.used() <= CELLS);
    }
}

fn play(moves: Vec<Move>) {
    let allocator = KvAllocator::new(CELLS, CELLS / 2, RUNNING + 3);
    let mut play = Play {
        allocator,
        cache: Cache::default(),
        running: Vec::new(),
    };
    for one in moves {
        play.make(one);
        play.check();
    }
    let Play {
        mut allocator,
        running,
        ..
    } = play;
    for (id, _) in running {
        allocator.close(id);
    }
    assert_eq!(allocator.cached(), allocator.used());
    assert!(
        allocator.reserve(CELLS),
        "with nothing running, all cells can be had"
    );
    assert_eq!(allocator.used(), 0);
}

proptest! {
    #[test]
    fn the_ledger_is_the_cache(moves in moves()) {
        play(moves);
    }
}
