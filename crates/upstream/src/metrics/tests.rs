//! Tests that metrics of a deleted model are removed.

use inferyard_catalog::{Catalog, Model};

use super::*;

fn catalog(names: &[&str]) -> Catalog {
    let models = names.iter().map(|name| {
        let model = Model::new(name, 0);
        (model.id.clone(), Arc::new(model))
    });
    Catalog {
        models: models.collect(),
        ..Catalog::default()
    }
}

#[test]
fn what_was_counted_of_a_model_goes_with_it() {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let fleet = Fleet::new(None).unwrap();
    fleet.update(&catalog(&["goes", "stays"]));
    for name in ["goes", "stays"] {
        let model = name.into();
        metrics.placed(&model, true);
        metrics.retried(&model, "died");
    }
    let counted = |name: &str| {
        metrics.refresh(&fleet);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let label = format!("model=\"{name}\"");
        text.lines().filter(|line| line.contains(&label)).count()
    };
    assert_eq!((counted("goes"), counted("stays")), (2, 2));
    fleet.update(&catalog(&["stays"]));
    assert_eq!((counted("goes"), counted("stays")), (0, 2));
    // A model that returns starts again at 0.
    fleet.update(&catalog(&["goes", "stays"]));
    metrics.placed(&"goes".into(), true);
    assert_eq!(counted("goes"), 1);
}
