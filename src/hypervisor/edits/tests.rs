use std::collections::BTreeSet;

use roxmltree::Document;

use super::*;

/// What nixvm renders.
const NAT: &str = include_str!("../../../tests/golden/domain-nat.xml");
const USER: &str = include_str!("../../../tests/golden/domain-user.xml");

/// What libvirt 9.0 makes of `NAT`, and after `virsh attach-disk`, `attach-device`, `desc`, `metadata`, `schedinfo`, `memtune`,
/// `vcpupin`, `iothreadadd` and `blkdeviotune`, each with `--config`.
const UNTOUCHED: &str = include_str!("../recorded/untouched-9.0.xml");
const EDITED: &str = include_str!("../recorded/edited-9.0.xml");

/// Returns every value in the XML with its place; devices of one name are told apart by what follows `|`.
fn facts(xml: &str) -> BTreeSet<String> {
    fn walk(node: Node<'_, '_>, place: &str, found: &mut BTreeSet<String>) {
        let index = node.has_tag_name("controller").then(|| node.attribute("index").unwrap_or("0"));
        let own = [serial(node), card(node), node.attribute("name"), index].into_iter().flatten().next();
        let place = format!("{place}/{}|{}", node.tag_name().name(), own.unwrap_or_default());
        found.insert(format!("{place}={}", text(node)));
        found.extend(node.attributes().map(|a| format!("{place}@{}={}", a.name(), a.value())));
        node.children().filter(Node::is_element).for_each(|child| walk(child, &place, found));
    }
    let mut found = BTreeSet::new();
    walk(Document::parse(xml).unwrap().root_element(), "", &mut found);
    found
}

/// Returns what of `before` is not in `after`.
fn lost(before: &str, after: &str) -> Vec<String> {
    facts(before).difference(&facts(after)).cloned().collect()
}

/// What libvirt words in another way or chooses anew.
const ANEW: [&str; 6] = [
    "/domain|/currentMemory|=2048 MiB",
    "/domain|/currentMemory|@unit=KiB",
    "/domain|/devices|/console|/log|=",
    "/domain|/devices|/emulator|=/usr/bin/qemu-system-x86_64",
    "/domain|/memory|@unit=KiB",
    "/domain|/os|/type|@machine=pc-q35-7.2",
];

fn is_anew(fact: &str) -> bool {
    ANEW.contains(&fact) || fact.starts_with("/domain|/devices|/console|/log|@")
}

#[test]
fn a_definition_that_nobody_changed_is_what_it_was() {
    let merged = merge(NAT, UNTOUCHED).unwrap();
    assert_eq!(merged.set_back, [""; 0]);
    let lost = lost(UNTOUCHED, &merged.xml);
    assert!(lost.iter().all(|fact| is_anew(fact)) && lost.len() == ANEW.len() + 2, "{lost:?}");
    assert_eq!(super::tests::lost(NAT, &merged.xml), [""; 0], "all that nixvm renders is there");
}

#[test]
fn what_somebody_added_stays_with_its_address() {
    let merged = merge(NAT, EDITED).unwrap();
    assert_eq!(merged.set_back, [""; 0]);
    let lost: Vec<_> = lost(EDITED, &merged.xml).into_iter().filter(|fact| !is_anew(fact)).collect();
    assert_eq!(lost, [""; 0]);
    assert_eq!(super::tests::lost(NAT, &merged.xml), [""; 0]);
    // And again, as libvirt would be given it the next time.
    assert_eq!(facts(&merge(NAT, &merged.xml).unwrap().xml), facts(&merged.xml));
}

#[test]
fn what_newer_libvirts_write_by_themselves_is_no_edit() {
    // libvirt 11 writes down the firmware that it chose, and a watchdog that the board has anyway.
    let newer = UNTOUCHED
        .replace(
            "</firmware>",
            "</firmware><loader readonly='yes' type='pflash' format='raw'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>",
        )
        .replace("<nvram>", "<nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd' templateFormat='raw' format='raw'>")
        .replace("<video>", "<watchdog model='itco' action='reset'/><video>");
    let merged = merge(NAT, &newer).unwrap();
    assert_eq!(merged.set_back, [""; 0]);
    assert!(!merged.xml.contains("OVMF"), "the firmware is chosen anew: {}", merged.xml);
    assert!(merged.xml.contains("model='itco'"));
}

#[test]
fn what_the_machines_files_change_is_nobodys_edit() {
    let larger =
        NAT.replace("2048", "4096").replace("<vcpu>2", "<vcpu>3").replace("vcpus=\"2\"", "vcpus=\"3\"");
    let merged = merge(&larger, EDITED).unwrap();
    assert_eq!(merged.set_back, [""; 0]);
    assert!(
        merged.xml.contains("<memory unit=\"MiB\">4096</memory>") && !merged.xml.contains("currentMemory")
    );

    let emulated = NAT.replace("type=\"kvm\"", "type=\"qemu\"").replace("host-passthrough", "maximum");
    let merged = merge(&emulated, EDITED).unwrap();
    assert_eq!(merged.set_back, [""; 0]);
    assert!(merged.xml.contains("<cpu mode=\"maximum\"/>"), "{}", merged.xml);

    let bridged = NAT
        .replace("interface type=\"network\"", "interface type=\"bridge\"")
        .replace("source network=\"default\"", "source bridge=\"br0\"");
    assert_eq!(merge(&bridged, EDITED).unwrap().set_back, [""; 0]);

    // The machine's own card goes and comes, and somebody's own stays.
    let cards = |xml: &str| {
        let document = Document::parse(xml).unwrap();
        document.descendants().filter_map(card).map(str::to_owned).collect::<Vec<_>>()
    };
    let added = "<qemu:env name='A' value='&quot;'/><qemu:arg value='-msg'/></qemu:commandline>";
    let user = merge(USER, EDITED).unwrap();
    assert_eq!((user.set_back.len(), cards(&user.xml)), (0, vec!["52:54:00:aa:bb:cc".into()]));
    let user = merge(USER, &user.xml.replace("</qemu:commandline>", added)).unwrap().xml;
    assert_eq!(user.matches("netdev=nixvm").count(), 1, "{user}");
    let nat = merge(NAT, &user).unwrap();
    assert_eq!((nat.set_back.len(), nat.xml.matches("netdev=nixvm").count()), (0, 0), "{}", nat.xml);
    assert!(nat.xml.contains("<qemu:env name='A' value='&quot;'/>\n<qemu:arg value='-msg'/>"), "{}", nat.xml);
    assert_eq!(cards(&nat.xml), ["52:54:00:12:34:56", "52:54:00:aa:bb:cc"]);
}

#[test]
fn what_somebody_changed_of_nixvms_own_is_set_back_and_told() {
    for (from, to, told) in [
        ("<memory unit='KiB'>2097152", "<memory unit='KiB'>1048576", "memory from `1024 MiB` to `2048 MiB`"),
        ("placement='static'>2<", "placement='static' current='1'>4<", "vcpu from `4` to `2`"),
        (
            "cpu mode='host-passthrough'",
            "cpu mode='host-model'",
            "cpu mode from `host-model` to `host-passthrough`",
        ),
        ("<on_crash>restart", "<on_crash>destroy", "on_crash from `destroy` to `restart`"),
        ("discard='unmap'", "discard='ignore'", "disk nixvm-data driver discard from `ignore` to `unmap`"),
        (
            "source network='default'",
            "source network='lab'",
            "interface source network from `lab` to `default`",
        ),
        (
            "52:54:00:12:34:56'/>\n      <source",
            "52:54:00:ff:ff:ff'/>\n      <source",
            "interface mac address from `52:54:00:ff:ff:ff` to `52:54:00:12:34:56`",
        ),
        ("web_2.nvram.fd", "mine.fd", "os nvram from"),
    ] {
        assert!(UNTOUCHED.contains(from), "{from}");
        let merged = merge(NAT, &UNTOUCHED.replacen(from, to, 1)).unwrap();
        assert!(merged.set_back.iter().any(|line| line.starts_with(told)), "{from}: {:?}", merged.set_back);
        let other = |fact: &String| !is_anew(fact) && !fact.contains("52:54:00:12:34:56/");
        assert_eq!(lost(NAT, &merged.xml).into_iter().filter(other).collect::<Vec<_>>(), [""; 0], "{from}");
        assert!(!merged.xml.contains("current='1'"));
    }
    // A card on another network is somebody's own, and nixvm's comes back beside it.
    let other = UNTOUCHED.replace(
        "52:54:00:12:34:56'/>\n      <source network='default'",
        "52:54:00:ff:ff:ff'/>\n      <source network='lab'",
    );
    let merged = merge(NAT, &other).unwrap();
    assert!(
        merged.set_back.is_empty()
            && merged.xml.contains("network='lab'")
            && merged.xml.contains("network=\"default\"")
    );
    let less = UNTOUCHED.replace("<currentMemory unit='KiB'>2097152", "<currentMemory unit='KiB'>1048576");
    assert_eq!(merge(NAT, &less).unwrap().set_back, ["currentMemory"]);
    let first = EDITED
        .replace("<target dev='vdd' bus='virtio'/>", "<target dev='vdd' bus='virtio'/><boot order='1'/>");
    let merged = merge(NAT, &first).unwrap();
    assert_eq!(merged.set_back, ["the boot order of a disk"]);
    assert_eq!(merged.xml.matches("boot order").count(), 1);
    let second =
        first.replace("'vdd' bus='virtio'/><boot order='1'/>", "'vdd' bus='virtio'/><boot order='2'/>");
    assert_eq!(merge(NAT, &second).unwrap().xml.matches("boot order").count(), 2);
}

#[test]
fn a_definition_of_a_nixvm_that_wrote_no_record_is_taken_as_it_is() {
    let older = UNTOUCHED.lines().filter(|line| !line.contains("<defined:as")).collect::<Vec<_>>().join("\n");
    let merged = merge(&NAT.replace("2048", "4096"), &older).unwrap();
    assert_eq!(merged.set_back, [""; 0]);
    assert_eq!(merged.xml.matches("<mac ").count(), 1);
}

#[test]
fn devices_of_a_kind_that_nixvm_gives_none_of_and_a_title_of_ones_own_stay() {
    let usb = "<controller type='usb' index='0' model='qemu-xhci'/>";
    let present = UNTOUCHED
        .replace("<controller type='usb' index='0' model='none'/>", usb)
        .replace("<model type='none'/>", "<model type='vga'/>")
        .replace("<title>", "<title>mine, not ")
        .replace("(nixvm, profile", "(of profile");
    let merged = merge(NAT, &present).unwrap();
    assert_eq!(merged.set_back, [""; 0]);
    assert!(merged.xml.contains(usb) && !merged.xml.contains("none\"/>"), "{}", merged.xml);
    assert!(merged.xml.contains("<model type='vga'/>") && merged.xml.contains("<title>mine, not web"));
    let newer = NAT.replace("generation 3)</title>", "generation 4)</title>");
    let merged = merge(&newer, UNTOUCHED).unwrap();
    assert!(merged.set_back.is_empty() && merged.xml.contains("generation 4)</title>"));
}

#[test]
fn nixvms_own_record_is_never_mixed_with_an_older_one() {
    let fewer = UNTOUCHED.replace("name=\"before\"", "name=\"gone\"");
    let merged = merge(NAT, &fewer).unwrap();
    assert!(!merged.xml.contains("gone") && merged.xml.matches("name=\"before\"").count() == 1);
    assert!(merge(NAT, "<domain><os></domain>").is_err());
}
