//! `stepwell bench` as a person calls it, with so little work that its figures mean nothing: what is tested is that each
//! figure is there, beside its raw limit from the same run, in both files.

use std::process::Command;

#[test]
fn bench_writes_every_figure_beside_its_raw_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (json, page) = (folder.path().join("figures.json"), folder.path().join("figures.md"));
    let ran = Command::new(env!("CARGO_BIN_EXE_stepwell"))
        .args(["bench", "--runs", "2000", "--quick", "--dir"])
        .arg(folder.path())
        .arg("--figures")
        .arg(&json)
        .arg("--markdown")
        .arg(&page)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let page = std::fs::read_to_string(page).unwrap();
    let shown = String::from_utf8(ran.stdout).unwrap();
    let figures = report["figures"].as_array().unwrap();
    for (name, raw) in [
        ("events accepted, one a request", true),
        ("events accepted, 100 a request", true),
        ("1-step no-op runs", true),
        ("3-step no-op runs", true),
        ("resident memory, idle", false),
        ("resident memory after", false),
        ("disk a 3-step run", false),
        ("sent to finished, p50", true),
        ("sent to finished, p99", true),
    ] {
        let figure =
            figures.iter().find(|figure| figure["name"].as_str().unwrap().contains(name)).unwrap_or_else(|| panic!("{name}: {report}"));
        assert!(figure["value"].as_f64().unwrap() > 0.0, "{figure}");
        assert_eq!(figure["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), raw, "{figure}");
        assert!(page.contains(name) && shown.contains(name), "{name} is on the page and on stdout");
    }
    assert!(report["machine"].as_array().unwrap().iter().any(|line| line.as_str().unwrap().contains("cores")), "{report}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "the databases are gone");
}
