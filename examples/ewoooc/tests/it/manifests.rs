//! The manifests against the server: they name the tools that there are, and only those.

use serde_json::Value;

use crate::client::Client;

fn manifest(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("one YAML document")
}

fn names(list: &Value, key: &str) -> Vec<String> {
    list.as_array()
        .expect("a list")
        .iter()
        .map(|item| item[key].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn every_tool_is_listed_as_read_only_and_granted() {
    let tools = names(&Value::from(Client::connect().tools()), "name");
    let shop = manifest(include_str!("../../provider-shop.yaml"));
    assert_eq!(names(&shop["spec"]["tools"], "name"), tools);
    assert!(names(&shop["spec"]["tools"], "risk").iter().all(|risk| risk == "read_only"));

    let analyst = manifest(include_str!("../../agent-shop-analyst.yaml"));
    let full: Vec<String> = tools.iter().map(|tool| format!("shop__{tool}")).collect();
    assert_eq!(names(&analyst["spec"]["grants"], "tool"), full);
    assert!(analyst["spec"].get("mode").is_none(), "the agent runs in shadow");
    jsonschema::validator_for(&analyst["spec"]["output_schema"]).expect("a valid JSON Schema");
}

#[test]
fn every_manifest_belongs_to_the_one_project() {
    for (text, kind, id) in [
        (include_str!("../../project.yaml"), "project", "ewoooc"),
        (include_str!("../../provider-offline.yaml"), "provider", "offline"),
        (include_str!("../../provider-shop.yaml"), "provider", "shop"),
        (include_str!("../../agent-shop-analyst.yaml"), "agent", "shop-analyst"),
    ] {
        let manifest = manifest(text);
        assert_eq!((&manifest["kind"], &manifest["id"]), (&kind.into(), &id.into()));
        assert_eq!(manifest["project"], "ewoooc");
    }
}
