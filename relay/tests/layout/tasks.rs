//! Rule 6: tasks are started by `task`, so that each has a name and a panic of it has a meaning.

use super::source::{Source, sources};

/// Who may start a task without a name, and why.
const UNNAMED: &[(&str, &str)] = &[
    ("relay/src/task/mod.rs", "starts the named ones"),
    ("relay/src/tls/acme/http.rs", "drives one request's connection, and that request waits for it"),
];

fn unnamed(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let is_product = source.path.starts_with("relay/src/")
            && !source.path.ends_with("tests.rs")
            && !source.path.contains("/tests/");
        if !is_product || UNNAMED.iter().any(|(path, _)| *path == source.path) {
            continue;
        }
        let code = source.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in (1..).zip(code.lines()) {
            let starts =
                ["tokio::spawn(", "task::spawn(", "Handle::current().spawn("].iter().any(|call| line.contains(call));
            if starts && !line.trim_start().starts_with("//") {
                faults.push(format!("{}:{number}: a task without a name", source.path));
            }
        }
    }
    faults
}

#[test]
fn tasks_have_names() {
    assert_eq!(unnamed(&sources()), Vec::<String>::new());
}

#[test]
fn control_a_task_without_a_name_is_found() {
    let found = |path: &str, text: &str| unnamed(&[Source::new(path, text)]).len();
    assert_eq!(found("relay/src/log/mod.rs", "let task = tokio::spawn(run());"), 1);
    assert_eq!(found("relay/src/log/tests.rs", "let task = tokio::spawn(run());"), 0);
    assert_eq!(found("relay/src/log/mod.rs", "tasks.spawn(Task::Follow, run());"), 0);
    assert_eq!(found("relay/src/log/mod.rs", "// tokio::spawn(run())"), 0);
    assert_eq!(found("relay/src/log/mod.rs", "#[cfg(test)]\nmod tests {\n    tokio::spawn(run());"), 0);
}
