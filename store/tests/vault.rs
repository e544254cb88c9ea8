//! Variables and connections, over every implementation.

use tidemill_engine::ids::{ConnectionId, VariableName};
use tidemill_store::vault::{ConnectionRow, VariableRow, VaultChange};

use crate::support::{Bed, at};

fn variable(name: &str, value: &str) -> VariableRow {
    VariableRow {
        name: VariableName::new(name).expect("a name"),
        description: "about it, Änderung".to_owned(),
        is_secret: name.len() > 1,
        value: value.to_owned(),
        updated_by: "ann".to_owned(),
        updated_at: at(5),
    }
}

fn connection(id: &str) -> ConnectionRow {
    ConnectionRow {
        id: ConnectionId::new(id).expect("an id"),
        kind: "postgres".to_owned(),
        description: String::new(),
        host: Some("db.example".to_owned()),
        port: Some(65_535),
        login: None,
        schema: Some("sales".to_owned()),
        password: Some("v1:key:AAAA".to_owned()),
        extra: None,
        updated_by: "ann".to_owned(),
        updated_at: at(6),
    }
}

pub(crate) async fn variables_and_connections_come_back(bed: &Bed) {
    let reader = &bed.store.reader;
    let mut batch = bed.batch().await;
    let (b, a, ab) = (variable("b", "v1:k:1"), variable("a", "v1:k:2"), variable("ab", "v1:k:3"));
    batch.vault = [&b, &a, &ab].map(|row| VaultChange::SetVariable(row.clone())).to_vec();
    batch.vault.push(VaultChange::SetConnection(connection("x.y")));
    bed.store.writer.commit(&batch).await.expect("stored");
    assert_eq!(reader.variables(&[]).await.expect("reads"), [a.clone(), ab.clone(), b.clone()]);
    let names = ["b", "missing", "a"].map(|name| VariableName::new(name).expect("a name"));
    assert_eq!(reader.variables(&names).await.expect("reads"), [a.clone(), b]);
    assert_eq!(reader.connections(&[]).await.expect("reads"), [connection("x.y")]);
    let ids = [ConnectionId::new("x").expect("an id")];
    assert_eq!(reader.connections(&ids).await.expect("reads"), []);

    // The last word on a name counts, also within one batch; what is not there may be deleted.
    let mut batch = bed.batch().await;
    let again = VariableRow { is_secret: false, value: "v1:k:4".to_owned(), ..ab };
    let bare = ConnectionRow { host: None, port: None, schema: None, password: None, ..connection("x.y") };
    batch.vault = vec![
        VaultChange::DeleteVariable(names[0].clone()),
        VaultChange::SetVariable(variable("ab", "v1:k:5")),
        VaultChange::SetVariable(again.clone()),
        VaultChange::DeleteVariable(names[1].clone()),
        VaultChange::SetConnection(bare.clone()),
        VaultChange::DeleteConnection(ids[0].clone()),
    ];
    bed.store.writer.commit(&batch).await.expect("stored");
    assert_eq!(reader.variables(&[]).await.expect("reads"), [a, again]);
    assert_eq!(reader.connections(&[]).await.expect("reads"), [bare]);
}

/// A value that somebody forgot to seal is refused by the schema, not stored in clear.
pub(crate) async fn plain_text_is_refused_where_sealed_text_belongs(bed: &Bed) {
    let plain = |text: &str| Some(text.to_owned());
    for change in [
        VaultChange::SetVariable(variable("a", "hunter22")),
        VaultChange::SetConnection(ConnectionRow { password: plain("hunter22"), ..connection("x") }),
        VaultChange::SetConnection(ConnectionRow { extra: plain("{}"), ..connection("x") }),
    ] {
        let mut batch = bed.batch().await;
        batch.vault = vec![change];
        let error = bed.store.writer.commit(&batch).await.expect_err("it is not sealed");
        assert_eq!(error.code(), "STO0203", "{error}");
    }
    assert_eq!(bed.store.reader.variables(&[]).await.expect("reads"), []);
}
