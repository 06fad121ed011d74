//! Finds what a grammar can begin but never complete.
//!
//! A schema that needs itself without an end (`{"$ref": "#"}`) compiles, and would leave the sampler
//! without a token in the middle of an answer, or the answer without an end.

use std::collections::{HashMap, HashSet};

use llguidance::earley::{CGrammar, CSymIdx};

/// How much of a grammar has no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DeadEnd {
    /// There is no text at all.
    #[error("it allows no value")]
    Everywhere,
    /// Where it can get to a symbol that has no text.
    #[error("a part of it allows no value")]
    Somewhere,
}

#[derive(Default)]
struct Search {
    rules: Vec<Rule>,
    // The rules that a symbol stands in, once for each place.
    uses: HashMap<usize, Vec<usize>>,
    reachable: HashSet<usize>,
    // Symbols with a text whose uses do not know of it yet.
    fresh: Vec<CSymIdx>,
}

struct Rule {
    of: CSymIdx,
    // How many of its symbols are not known to have a text.
    open: usize,
}

/// Takes time in proportion to the grammar's size.
pub(super) fn check(grammar: &CGrammar) -> Result<(), DeadEnd> {
    let mut search = Search::default();
    search.reach(grammar);
    let complete = search.complete();
    if !complete.contains(&grammar.start().as_index()) {
        return Err(DeadEnd::Everywhere);
    }
    if complete.len() < search.reachable.len() {
        return Err(DeadEnd::Somewhere);
    }
    Ok(())
}

// === impl Search ===

impl Search {
    /// Collects the rules that the start can lead to.
    fn reach(&mut self, grammar: &CGrammar) {
        let mut next = vec![grammar.start()];
        self.reachable.insert(grammar.start().as_index());
        while let Some(symbol) = next.pop() {
            let data = grammar.sym_data(symbol);
            // Whether a condition can hold is not looked into: a doubt is in the schema's favour.
            let nullable = data.is_nullable || !data.cond_nullable.is_empty();
            if data.is_terminal || nullable {
                self.fresh.push(symbol);
            }
            for rule in &data.rules {
                let (elements, _, _) = grammar.rule_rhs(*rule);
                for element in elements {
                    let uses = self.uses.entry(element.as_index()).or_default();
                    uses.push(self.rules.len());
                    if self.reachable.insert(element.as_index()) {
                        next.push(*element);
                    }
                }
                self.rules.push(Rule {
                    of: symbol,
                    open: elements.len(),
                });
            }
        }
    }

    /// The symbols that have a text.
    fn complete(&mut self) -> HashSet<usize> {
        let mut complete = HashSet::new();
        while let Some(symbol) = self.fresh.pop() {
            if !complete.insert(symbol.as_index()) {
                continue;
            }
            for at in self.uses.remove(&symbol.as_index()).unwrap_or_default() {
                let rule = &mut self.rules[at];
                rule.open -= 1;
                if rule.open == 0 {
                    self.fresh.push(rule.of);
                }
            }
        }
        complete
    }
}
