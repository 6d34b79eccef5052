//! A component that cannot run is refused, with one sentence that says what to do; everything else keeps
//! running.

use std::{fs::File, os::unix::fs::symlink};

use anyhow::ensure;
use saga_host::{
    model::policy::Policy,
    plugin::{engine::Engine, version::Version},
};
use saga_testkit::{caller::Request, plugin_folder};

use crate::support::{
    eventually, folder,
    guest::{self, PLUGIN, POLICY},
    host,
    stack::Own,
};

/// Why the component is refused under this policy; `None` when it is accepted.
async fn refusal(engine: &Engine, bytes: &[u8], policy: &str) -> Option<String> {
    let policy = match Policy::parse(PLUGIN, policy) {
        Ok(policy) => policy,
        Err(rejection) => return Some(rejection.to_string()),
    };
    let loaded = Version::load(engine, PLUGIN, bytes, policy.into()).await;
    loaded.err().map(|rejection| rejection.to_string())
}

/// The component with other bytes of the same length.
fn patched(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut component = guest::in_mood("good");
    let places: Vec<usize> = (0..component.len() - from.len())
        .filter(|place| component[*place..].starts_with(from.as_bytes()))
        .collect();
    assert!(!places.is_empty(), "no {from} in the component");
    for place in places {
        component[place..place + to.len()].copy_from_slice(to.as_bytes());
    }
    component
}

/// Where each section ends, up to the last but the custom ones, which a component can do without: an id, a
/// length in LEB128, the content.
/// <https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md>
fn section_ends(component: &[u8]) -> Vec<usize> {
    let mut ends = vec![8];
    let (mut place, mut needed) = (8, 0);
    while place < component.len() {
        let is_custom = component[place] == 0;
        let (mut length, mut shift) = (0, 0);
        loop {
            place += 1;
            length |= usize::from(component[place] & 0x7f) << shift;
            shift += 7;
            if component[place] & 0x80 == 0 {
                break;
            }
        }
        place += 1 + length;
        ends.push(place);
        needed = if is_custom { needed } else { ends.len() };
    }
    ends.truncate(needed);
    ends
}

#[tokio::test]
async fn each_refusal_names_the_reason() {
    let engine = Engine::new(folder::new("cache")).unwrap();
    let good = guest::in_mood("good");
    assert_eq!(refusal(&engine, &good, POLICY).await, None);
    let noise: Vec<u8> = (0..10_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let noisy = [&good[..8], &noise].concat();
    let no_topic = POLICY.replace(r#"read = ["misbehaviour-topic"]"#, "");
    let no_output = POLICY.replace(r#"write = ["well-behaved-topic"]"#, "");
    let no_route = POLICY.replace(r#"routes = ["POST /misbehave/{how}"]"#, "");
    let other_name = POLICY.replace(r#"name = "misbehaving""#, r#"name = "behaving""#);
    for (what, bytes, policy, says) in [
        ("an empty file", vec![], POLICY, "an empty file; copy it again"),
        ("random bytes", noise, POLICY, "not WebAssembly; build a component with --target wasm32-wasip2"),
        ("a component's head before random bytes", noisy, POLICY, "truncated or damaged, or not a component"),
        ("a core module", b"\0asm\x01\0\0\0".to_vec(), POLICY, "a core module, not a component; build with"),
        (
            "another version of the interfaces",
            patched("saga:plugin/kafka@0.1.0", "saga:plugin/kafka@0.2.0"),
            POLICY,
            "needs saga:plugin 0.2.0, but this host provides 0.1.0",
        ),
        (
            "sockets",
            patched("saga:plugin/kafka@0.1.0", "wasi:sockets/tcps@0.2.0"),
            POLICY,
            "imports wasi:sockets/tcps@0.2.0, but a plugin can import saga:plugin only",
        ),
        ("a trap", guest::in_mood("trap"), POLICY, "describe() failed: panicked at"),
        (
            "a loop",
            guest::in_mood("loop"),
            POLICY,
            "describe() failed: runs longer than guest_ms_max = 100 ms",
        ),
        ("a gibibyte", guest::in_mood("huge"), POLICY, "over memory_mib_max = 16"),
        (
            "a topic",
            good.clone(),
            &no_topic,
            "subscribes to misbehaviour-topic, which misbehaving.toml does not grant",
        ),
        ("an output", good.clone(), &no_output, "misbehaving.toml does not grant. Add it to [kafka] write"),
        ("a route", good.clone(), &no_route, "misbehaving.toml does not grant. Add it to [http] routes"),
        ("another name", good.clone(), &other_name, "must be the name of the file"),
        ("a malformed policy", good.clone(), "name = ", "misbehaving.toml: "),
    ] {
        let refusal = refusal(&engine, &bytes, policy).await.unwrap_or_default();
        assert!(refusal.contains(says), "{what}: {refusal}");
    }
    let ends = section_ends(&good);
    for end in &ends[..ends.len() - 1] {
        let refusal = refusal(&engine, &good[..*end], POLICY).await;
        assert!(refusal.is_some(), "cut off after {end} of {} bytes", good.len());
    }
}

/// What is not a file, or is too large, is not deployed, and the log has the reason. A symbolic link is
/// followed.
#[tokio::test]
async fn other_files_in_the_folder_are_logged_and_ignored() {
    let (stack, plugins) = (Own::start().await, folder::new("plugins"));
    guest::add(&plugins);
    let target = &stack.target;
    let (_host, log) = host::run_logging_lanes(target, &plugins).await;
    let before = host::active(target, PLUGIN).await.unwrap();
    std::fs::create_dir(plugins.join("folder.wasm")).unwrap();
    File::create(plugins.join("large.wasm")).unwrap().set_len(200 << 20).unwrap();
    // Root can read a file without read permission, so the link is to one that nobody can read.
    symlink("/proc/self/mem", plugins.join("secret.wasm")).unwrap();
    std::fs::write(plugins.join("lonely.wasm"), guest::in_mood("late")).unwrap();
    eventually(async || {
        let text = std::fs::read_to_string(&log)?;
        for says in [
            "folder.wasm is not deployed: not a file",
            "large.wasm is not deployed: 209715200 bytes, more than 67108864",
            "secret.wasm is not deployed: Input/output error",
            "there is no policy",
        ] {
            ensure!(text.contains(says), "not in the log: {says:?}");
        }
        Ok(())
    })
    .await;
    assert_eq!(host::active(target, PLUGIN).await.unwrap(), before);
    let policy = plugins.join(format!("{PLUGIN}.toml"));
    let text = std::fs::read(&policy).unwrap();
    for (text, refused) in [(&b"nonsense"[..], true), (&text, false)] {
        plugin_folder::replace(&policy, text).unwrap();
        eventually(async || {
            let shown = host::get(target, &format!("/v1/plugins/{PLUGIN}")).await?.to_string();
            ensure!(shown.contains("rejected") == refused, "{shown}");
            Ok(())
        })
        .await;
    }
    let elsewhere = folder::new("elsewhere").join("new.wasm");
    std::fs::write(&elsewhere, guest::in_mood("well")).unwrap();
    let link = plugins.join(".link");
    symlink(&elsewhere, &link).unwrap();
    std::fs::rename(&link, plugins.join(format!("{PLUGIN}.wasm"))).unwrap();
    eventually(async || {
        ensure!(host::active(target, PLUGIN).await? != before, "the link is not followed");
        Ok(())
    })
    .await;
    Request::post("/misbehave/not", String::new())
        .send(target.http().unwrap())
        .await
        .unwrap()
        .expect(201)
        .unwrap();
}

/// The file changes while no host is running.
#[tokio::test]
async fn a_bad_file_at_the_start_leaves_the_active_version_running() {
    let (stack, plugins) = (Own::start().await, folder::new("plugins"));
    guest::add(&plugins);
    let target = &stack.target;
    let host = host::run(target, &plugins).await;
    let good = host::active(target, PLUGIN).await.unwrap();
    host.stop().await;
    guest::turn(&plugins, "trap");
    let _host = host::run(target, &plugins).await;
    assert_eq!(host::active(target, PLUGIN).await.unwrap(), good);
    assert!(host::cli(target, &["plugins"]).contains("describe() failed: panicked at"));
    Request::post("/misbehave/not", String::new())
        .send(target.http().unwrap())
        .await
        .unwrap()
        .expect(201)
        .unwrap();
}
