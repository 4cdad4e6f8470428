use super::*;
use serde_json::json;

fn render(text: &str) -> String {
    let value = json!({"Name": "web", "Id": "sha256:abc", "N": 3, "F": 1.5, "On": true, "Off": false, "Nothing": null,
        "List": ["a", "b", "c"], "Empty": [], "Labels": {"b": "2", "a": "1"}, "Deep": {"Inner": {"X": "y"}},
        "Rows": [{"K": "p"}, {"K": "q"}]});
    match Template::parse(text).and_then(|template| template.render(&value)) {
        Ok(text) => text,
        Err(error) => format!("! {error}"),
    }
}

#[test]
fn values_are_written_as_go_writes_them() {
    for (text, expected) in [
        ("plain", "plain"),
        ("{{.Name}}:{{ .N }}", "web:3"),
        (
            "{{.}}",
            "map[Deep:map[Inner:map[X:y]] Empty:[] F:1.5 Id:sha256:abc Labels:map[a:1 b:2] List:[a b c] N:3 Name:web Nothing:<nil> Off:false On:true Rows:[map[K:p] map[K:q]]]",
        ),
        ("{{.Deep.Inner.X}} {{$.Name}} {{(index .Rows 1).K}}", "y web q"),
        (
            "{{json .List}} {{json .Name}} {{.Labels | json}}",
            r#"["a","b","c"] "web" {"a":"1","b":"2"}"#,
        ),
        ("{{.Nothing}}", "<no value>"),
        (
            "{{.F}} {{.On}} {{1e3}} {{0x10}} {{'a'}} {{`raw`}} {{\"q\\n\"}}",
            "1.5 true 1000 16 97 raw q\n",
        ),
        ("a {{- .N -}} b", "a3b"),
        ("{{/* nothing */}}x{{- /* more */ -}} y", "xy"),
        (
            "{{printf \"%-5s|%5d|%05d|%q|%.2f|%v|%t|%x|%%\" .Name .N .N .Name .F .List .On .N}}",
            "web  |    3|00003|\"web\"|1.50|[a b c]|true|3|%",
        ),
        (
            "{{printf \"%d\" .Name}} {{printf \"%s\"}}",
            "%!d(string=web) %!s(MISSING)",
        ),
        ("{{print 1 2 \"a\" 3}} {{println .Name}}", "1 2a3 web\n"),
    ] {
        assert_eq!(render(text), expected, "{text}");
    }
}

#[test]
fn blocks_variables_and_functions_do_what_go_does() {
    for (text, expected) in [
        (
            "{{if .On}}yes{{else}}no{{end}}{{if .Off}}yes{{else if eq .N 3}}three{{else}}no{{end}}",
            "yesthree",
        ),
        (
            "{{range .List}}<{{.}}>{{end}}{{range .Empty}}x{{else}}none{{end}}",
            "<a><b><c>none",
        ),
        (
            "{{range $i, $e := .List}}{{if $i}}, {{end}}{{$i}}={{$e}}{{end}}",
            "0=a, 1=b, 2=c",
        ),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        (
            "{{range .List}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}|{{range .List}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}",
            "ac|a",
        ),
        (
            "{{with .Deep}}{{.Inner.X}}{{end}}{{with .Nothing}}x{{else}}none{{end}}",
            "ynone",
        ),
        ("{{$x := 1}}{{if .On}}{{$x = 2}}{{end}}{{$x}}", "2"),
        (
            "{{and .On .N}} {{or .Off .Name}} {{not .On}} {{len .List}} {{len .Name}}",
            "3 web false 3 3",
        ),
        (
            "{{eq .Name \"a\" \"web\"}} {{ne .N 2}} {{lt .N 4}} {{ge .N 4}} {{gt \"b\" \"a\"}}",
            "true true true false true",
        ),
        (
            "{{index .List 1}} {{index .Labels \"a\"}} {{index .Labels \"zz\"}} {{slice .Name 0 2}}",
            "b 1 <no value> we",
        ),
        (
            "{{join .List \", \"}} {{upper .Name}} {{title .Name}} {{truncate .Id 6}} {{pad .Name 1 2}}|",
            "a, b, c WEB Web sha256  web  |",
        ),
        (
            "{{range split .Id \":\"}}[{{.}}]{{end}} {{html \"<a>\"}} {{urlquery \"a b&c\"}}",
            "[sha256][abc] &lt;a&gt; a+b%26c",
        ),
        ("{{.Name | printf \"%s-%s\" \"x\" | upper}}", "X-WEB"),
        ("{{range 3}}{{.}}{{end}}", "012"),
    ] {
        assert_eq!(render(text), expected, "{text}");
    }
}

#[test]
fn mistakes_are_told_in_gos_words() {
    for (text, expected) in [
        ("{{.Name", "! template parsing error: template: :1: unclosed action"),
        (
            "a\n{{nope .}}",
            "! template parsing error: template: :2: function \"nope\" not defined",
        ),
        ("{{if .On}}x", "! template parsing error: template: :1: unexpected EOF"),
        ("{{end}}", "! template parsing error: template: :1: unexpected {{end}}"),
        (
            "{{}}",
            "! template parsing error: template: :1: missing value for command",
        ),
        (
            "{{(.Name}}",
            "! template parsing error: template: :1: unclosed left paren",
        ),
        (
            "{{.Missing}}",
            "! template: :1: executing \"\": at <.Missing>: map has no entry for key \"Missing\"",
        ),
        (
            "{{.Name.X}}",
            "! template: :1: executing \"\": at <.Name.X>: can't evaluate field X in type string",
        ),
        (
            "{{index .List 9}}",
            "! template: :1: executing \"\": error calling index: index out of range: 9",
        ),
        (
            "{{break}}",
            "! template parsing error: template: :1: {{break}} outside {{range}}",
        ),
    ] {
        assert_eq!(render(text), expected, "{text}");
    }
    for deep in ["(".repeat(500), "{{if .On}}".repeat(500)] {
        assert!(render(&format!("{{{{{deep}")).starts_with('!'));
        assert!(render(&deep).starts_with('!') || deep.starts_with('('));
    }
}

#[test]
fn rows_become_tables_json_lines_or_what_a_template_says() {
    let table = Table {
        columns: &[
            Column {
                field: "Repository",
                header: "REPOSITORY",
            },
            Column {
                field: "Tag",
                header: "TAG",
            },
            Column {
                field: "Size",
                header: "SIZE",
            },
        ],
        usual: "{{.Repository}}\t{{.Tag}}\t{{.Size}}",
    };
    let rows = [
        json!({"Repository": "registry.example/team/app", "Tag": "1", "Size": "12MB"}),
        json!({"Repository": "busybox", "Tag": "latest", "Size": "4.26MB"}),
    ];
    let usual = "REPOSITORY                  TAG       SIZE\n\
                 registry.example/team/app   1         12MB\n\
                 busybox                     latest    4.26MB\n";
    assert_eq!(table.render("", &rows).expect("table"), usual);
    assert_eq!(table.render("table", &rows).expect("table"), usual);
    assert_eq!(
        table.render(r"table {{.Tag}}\t{{upper .Size}}", &rows).expect("table"),
        "TAG       SIZE\n1         12MB\nlatest    4.26MB\n"
    );
    assert_eq!(table.render("{{.Repository}}", &rows[1..]).expect("rows"), "busybox\n");
    assert_eq!(
        table.render("json", &rows[1..]).expect("rows"),
        "{\"Repository\":\"busybox\",\"Size\":\"4.26MB\",\"Tag\":\"latest\"}\n"
    );
    assert_eq!(table.render("", &[]).expect("table"), "REPOSITORY   TAG       SIZE\n");
    assert!(table.render("{{.Nope}}", &rows).is_err());
}
