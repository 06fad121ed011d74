//! Metrics of a model that was removed.

use inferyard_proto::worker::v1::Usage;

use super::*;
use inferyard_catalog::{Catalog, Model};

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
    let telemetry = Telemetry::new();
    let fleet = Fleet::new(None).unwrap();
    fleet.update(&catalog(&["goes", "stays"]));
    for name in ["goes", "stays"] {
        let model = name.into();
        telemetry.generated(&model, &Usage::default(), Some(0.1));
    }
    let counted = |name: &str| {
        let text = telemetry.render(&fleet).unwrap();
        let label = format!("model=\"{name}\"");
        text.lines().filter(|line| line.contains(&label)).count()
    };
    let all = counted("goes");
    assert!(all >= 4 && counted("stays") == all, "{all}");
    fleet.update(&catalog(&["stays"]));
    assert_eq!((counted("goes"), counted("stays")), (0, all));
    // The model returns, and its counters start at zero.
    fleet.update(&catalog(&["goes", "stays"]));
    telemetry.generated(&"goes".into(), &Usage::default(), None);
    let again = counted("goes");
    assert!(0 < again && again < all, "{again}");
}
