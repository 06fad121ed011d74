//! Texts that are cut have the same special tokens as whole ones.

use proptest::prelude::*;

use super::*;

/// What llama.cpp makes of a text: special tokens, the longest first, and the texts between them.
fn partition(text: &[u8], special: &[&[u8]]) -> Vec<(bool, Vec<u8>)> {
    let mut by_length = special.to_vec();
    by_length.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let mut parts = vec![(false, text.to_vec())];
    for special in by_length {
        let mut next = Vec::new();
        for (is_special, part) in parts {
            if is_special {
                next.push((true, part));
                continue;
            }
            let mut rest = &part[..];
            while let Some(at) = memchr::memmem::find(rest, special) {
                next.push((false, rest[..at].to_vec()));
                next.push((true, special.to_vec()));
                rest = &rest[at + special.len()..];
            }
            next.push((false, rest.to_vec()));
        }
        parts = next;
    }
    parts.retain(|(is_special, part)| *is_special || !part.is_empty());
    parts
}

fn pieces<'t>(text: &'t [u8], special: &[&[u8]], least: usize) -> Vec<&'t [u8]> {
    let cuts = Cuts::behind(special);
    let mut start = 0;
    let ends: Vec<usize> = cuts.ends(text, 0, least).collect();
    assert_eq!(ends.last(), Some(&text.len()));
    ends.into_iter()
        .map(|end| &text[std::mem::replace(&mut start, end)..end])
        .collect()
}

#[test]
fn a_text_is_cut_behind_what_nothing_disputes() {
    let check = |text: &str, special: &[&str], expect: &[&str]| {
        let special: Vec<&[u8]> = special.iter().map(|text| text.as_bytes()).collect();
        let found = pieces(text.as_bytes(), &special, 1);
        let expect: Vec<&[u8]> = expect.iter().map(|text| text.as_bytes()).collect();
        assert_eq!(found, expect, "{text:?}");
    };
    check("a\nb\nc", &["\n"], &["a\n", "b\n", "c"]);
    check("a\n", &["\n"], &["a\n"]);
    check("a\n\nb", &["\n", "\n\n"], &["a\n\n", "b"]);
    // Which two of the three it takes decides the order of the search.
    check("a\n\n\nb", &["\n", "\n\n"], &["a\n\n\nb"]);
    check("xabcdefx", &["abc", "cdef"], &["xabcdefx"]);
    check("x<b>y<b>z", &["<b>", "b"], &["x<b>", "y<b>", "z"]);
    check("none", &["<b>"], &["none"]);
    check("none", &[], &["none"]);
    check("", &["<b>"], &[""]);
}

#[test]
fn pieces_have_the_least_length_and_short_texts_are_whole() {
    let text = b"1234\n".repeat(10);
    let found = pieces(&text, &[b"\n"], 12);
    assert_eq!(found.len(), 4);
    assert!(found[..3].iter().all(|piece| piece.len() == 15));
    let cuts = Cuts::behind(&[b"\n"]);
    assert_eq!(cuts.ends(&text, 50, 12).collect::<Vec<_>>(), [50]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn the_parts_of_the_pieces_are_the_parts_of_the_whole(
        text in "[ab<>\n]{0,60}",
        special in prop::collection::vec("[ab<>\n]{1,5}", 0..6),
        least in 1..20_usize,
    ) {
        let mut special: Vec<&[u8]> = special.iter().map(String::as_bytes).collect();
        special.sort_unstable();
        special.dedup();
        let pieces = pieces(text.as_bytes(), &special, least);
        let parts: Vec<_> = pieces.iter().flat_map(|piece| partition(piece, &special)).collect();
        prop_assert_eq!(parts, partition(text.as_bytes(), &special));
        for piece in pieces.split_last().map_or(&[][..], |(_, all)| all) {
            prop_assert!(piece.len() >= least);
            prop_assert!(special.iter().any(|special| piece.ends_with(special)));
        }
    }
}
