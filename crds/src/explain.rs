//! Removes the line breaks of the source from descriptions, because `kubectl explain` wraps lines itself.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// The definition with every paragraph of its descriptions on one line.
pub(crate) fn on_one_line(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut();
        if let Some(schema) = schema.and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            join(schema);
        }
    }
    definition
}

fn join(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        let paragraphs = description.split("\n\n");
        let joined: Vec<_> = paragraphs.map(|text| text.replace('\n', " ")).collect();
        *description = joined.join("\n\n");
    }
    let fields = schema
        .properties
        .iter_mut()
        .flat_map(|all| all.values_mut());
    fields.for_each(join);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => join(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(join),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        join(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(text: &str) -> JSONSchemaProps {
        JSONSchemaProps {
            description: Some(text.to_owned()),
            ..JSONSchemaProps::default()
        }
    }

    #[test]
    fn lines_are_joined_wherever_they_stand_and_paragraphs_stay() {
        let two = "One\nline.\n\nAnother\none.";
        let mut list = described(two);
        list.items = Some(JSONSchemaPropsOrArray::Schema(Box::new(described(two))));
        let mut map = described(two);
        let values = JSONSchemaPropsOrBool::Schema(Box::new(described(two)));
        map.additional_properties = Some(values);
        let mut whole = described(two);
        let fields = [("list".to_owned(), list), ("map".to_owned(), map)];
        whole.properties = Some(fields.into());
        join(&mut whole);
        let text = serde_json::to_string(&whole).expect("a schema should be JSON");
        let joined = r#""One line.\n\nAnother one.""#;
        assert_eq!(text.matches(joined).count(), 5, "{text}");
    }

    #[test]
    fn no_definition_breaks_a_sentence() {
        for definition in crate::definitions() {
            let text = serde_json::to_string(&definition).expect("a definition should be JSON");
            let broken = text.replace(r"\n\n", "");
            assert!(!broken.contains(r"\n"), "{broken}");
        }
    }
}
