//! What is held, what is shared, and what goes first.

use super::*;

fn chain(hashes: &[u64]) -> Vec<Block> {
    let block = |hash: &u64| Block {
        hash: *hash,
        tokens: 10,
    };
    hashes.iter().map(block).collect()
}

/// Computes a prompt of these blocks and lets go of it; what was evicted for it.
fn run(cache: &mut Cache, hashes: &[u64]) -> Vec<u64> {
    let blocks = chain(hashes);
    let removed = start(cache, &blocks);
    cache.close(&blocks, 0);
    removed
}

fn start(cache: &mut Cache, blocks: &[Block]) -> Vec<u64> {
    let mut removed = Vec::new();
    let found = cache.find(blocks);
    let private = (blocks.len() - found.blocks) as u64 * 10;
    assert!(cache.open(blocks, found, private, &mut removed));
    for block in &blocks[found.blocks..] {
        cache.hold(*block);
    }
    removed
}

#[test]
fn blocks_stay_and_are_found_again() {
    let mut cache = Cache::new(100);
    assert!(run(&mut cache, &[1, 2, 3]).is_empty());
    assert_eq!((cache.used(), cache.cached()), (30, 30));
    let found = cache.find(&chain(&[1, 2, 4]));
    assert_eq!((found.blocks, found.tokens), (2, 20));
    assert_eq!(cache.find(&chain(&[2, 3])).blocks, 2);
    assert_eq!(cache.find(&chain(&[9, 1])), Found::default());
}

#[test]
fn the_same_hash_over_other_tokens_is_another_block() {
    let mut cache = Cache::new(100);
    run(&mut cache, &[1]);
    let longer = Block {
        hash: 1,
        tokens: 11,
    };
    assert_eq!(cache.find(&[longer]), Found::default());
}

#[test]
fn the_least_recently_used_go_first_and_tails_before_heads() {
    let mut cache = Cache::new(60);
    run(&mut cache, &[1, 2, 3]);
    run(&mut cache, &[1, 4, 5]);
    // 5 of 6 blocks are held. The older branch goes from its end; then the other from its end.
    assert_eq!(run(&mut cache, &[6, 7, 8]), [3, 2]);
    assert_eq!(run(&mut cache, &[9]), [5]);
    assert_eq!(run(&mut cache, &[10]), [4]);
    assert_eq!(run(&mut cache, &[11]), [1]);
}

#[test]
fn what_a_running_prompt_refers_to_is_not_evicted() {
    let mut cache = Cache::new(40);
    let first = chain(&[1, 2]);
    start(&mut cache, &first);
    assert_eq!((cache.used(), cache.cached()), (20, 0));
    run(&mut cache, &[3, 4]);
    let mut removed = Vec::new();
    assert!(!cache.open(&[], Found::default(), 30, &mut removed));
    assert!(removed.is_empty(), "a refusal changes nothing");
    let before = cache.freed();
    cache.close(&first, 0);
    assert!(cache.freed() > before);
    assert!(cache.open(&[], Found::default(), 30, &mut removed));
    assert_eq!(removed, [4, 3, 2]);
    assert_eq!((cache.used(), cache.cached()), (40, 10));
}

#[test]
fn what_is_found_cannot_be_evicted_for_the_rest() {
    let mut cache = Cache::new(40);
    run(&mut cache, &[1, 2, 3]);
    let blocks = chain(&[1, 2, 3]);
    let found = cache.find(&blocks);
    let mut removed = Vec::new();
    assert!(!cache.open(&blocks, found, 11, &mut removed));
    assert!(cache.open(&blocks, found, 10, &mut removed));
    assert!(removed.is_empty());
}

#[test]
fn two_prompts_that_compute_the_same_keep_one_copy() {
    let mut cache = Cache::new(100);
    let blocks = chain(&[1]);
    let mut removed = Vec::new();
    assert!(cache.open(&blocks, Found::default(), 15, &mut removed));
    assert!(cache.open(&blocks, Found::default(), 15, &mut removed));
    assert_eq!(cache.used(), 30);
    assert!(cache.hold(blocks[0]));
    assert!(!cache.hold(blocks[0]));
    assert_eq!(cache.used(), 20);
    cache.close(&blocks, 5);
    assert_eq!((cache.used(), cache.cached()), (15, 0));
    cache.close(&blocks, 5);
    assert_eq!((cache.used(), cache.cached()), (10, 10));
}
