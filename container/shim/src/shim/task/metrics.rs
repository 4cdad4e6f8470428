//! What a container uses, in the messages of containerd's cgroups library.

use crate::cli::events::{Files, of as entry};
use alloc::{format, string::String, vec::Vec};
use strata_runtime::cgroup::Cgroup;
use strata_ttrpc::envelope::Any;
use strata_ttrpc::{Message, metrics_v1 as v1, metrics_v2 as v2};

/// The figures of a cgroup.
pub(super) fn of(cgroup: &Cgroup) -> Any {
    let files = Files(cgroup);
    if cgroup.layout().is_unified() {
        return Any {
            type_url: "io.containerd.cgroups.v2.Metrics".into(),
            value: second(&files).encode_to_vec(),
        };
    }
    Any {
        type_url: "io.containerd.cgroups.v1.Metrics".into(),
        value: first(&files).encode_to_vec(),
    }
}

/// A limit of processes, 0 for none.
fn pids_limit(files: &Files<'_>) -> u64 {
    match files.number("pids", "pids.max") {
        u64::MAX => 0,
        limit => limit,
    }
}

fn first(files: &Files<'_>) -> v1::Metrics {
    let throttling = files.keyed("cpu", "cpu.stat");
    let oom = files.keyed("memory", "memory.oom_control");
    let per_cpu = files.text("cpuacct", "cpuacct.usage_percpu");
    v1::Metrics {
        pids: Some(v1::PidsStat {
            current: files.number("pids", "pids.current"),
            limit: pids_limit(files),
        }),
        cpu: Some(v1::CPUStat {
            usage: Some(v1::CPUUsage {
                total: files.number("cpuacct", "cpuacct.usage"),
                kernel: files.number("cpuacct", "cpuacct.usage_sys"),
                user: files.number("cpuacct", "cpuacct.usage_user"),
                per_cpu: per_cpu
                    .split_ascii_whitespace()
                    .filter_map(|text| text.parse().ok())
                    .collect(),
            }),
            throttling: Some(v1::Throttle {
                periods: entry(&throttling, "nr_periods"),
                throttled_periods: entry(&throttling, "nr_throttled"),
                throttled_time: entry(&throttling, "throttled_time"),
            }),
        }),
        memory: Some(memory_v1(files)),
        blkio: Some(v1::BlkIOStat {
            io_service_bytes_recursive: io_v1(files, "blkio.throttle.io_service_bytes_recursive"),
            io_serviced_recursive: io_v1(files, "blkio.throttle.io_serviced_recursive"),
            ..v1::BlkIOStat::default()
        }),
        memory_oom_control: Some(v1::MemoryOomControl {
            oom_kill_disable: entry(&oom, "oom_kill_disable"),
            under_oom: entry(&oom, "under_oom"),
            oom_kill: entry(&oom, "oom_kill"),
        }),
        ..v1::Metrics::default()
    }
}

fn memory_v1(files: &Files<'_>) -> v1::MemoryStat {
    let stat = files.keyed("memory", "memory.stat");
    let of = |key: &str| entry(&stat, key);
    let group = |prefix: &str| {
        let number = |name: &str| files.number("memory", &format!("{prefix}.{name}"));
        Some(v1::MemoryEntry {
            limit: number("limit_in_bytes"),
            usage: number("usage_in_bytes"),
            max: number("max_usage_in_bytes"),
            failcnt: number("failcnt"),
        })
    };
    v1::MemoryStat {
        cache: of("cache"),
        rss: of("rss"),
        rss_huge: of("rss_huge"),
        mapped_file: of("mapped_file"),
        dirty: of("dirty"),
        writeback: of("writeback"),
        pg_pg_in: of("pgpgin"),
        pg_pg_out: of("pgpgout"),
        pg_fault: of("pgfault"),
        pg_maj_fault: of("pgmajfault"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        hierarchical_memory_limit: of("hierarchical_memory_limit"),
        hierarchical_swap_limit: of("hierarchical_memsw_limit"),
        total_cache: of("total_cache"),
        total_rss: of("total_rss"),
        total_rss_huge: of("total_rss_huge"),
        total_mapped_file: of("total_mapped_file"),
        total_dirty: of("total_dirty"),
        total_writeback: of("total_writeback"),
        total_pg_pg_in: of("total_pgpgin"),
        total_pg_pg_out: of("total_pgpgout"),
        total_pg_fault: of("total_pgfault"),
        total_pg_maj_fault: of("total_pgmajfault"),
        total_inactive_anon: of("total_inactive_anon"),
        total_active_anon: of("total_active_anon"),
        total_inactive_file: of("total_inactive_file"),
        total_active_file: of("total_active_file"),
        total_unevictable: of("total_unevictable"),
        usage: group("memory"),
        swap: group("memory.memsw"),
        kernel: group("memory.kmem"),
        kernel_tcp: group("memory.kmem.tcp"),
    }
}

/// Lines such as `8:0 Read 4096`.
fn io_v1(files: &Files<'_>, name: &str) -> Vec<v1::BlkIOEntry> {
    let text = files.text("blkio", name);
    let entries = text.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (major, minor) = fields.next()?.split_once(':')?;
        let (op, value) = (fields.next()?, fields.next()?);
        Some(v1::BlkIOEntry {
            op: op.into(),
            device: String::new(),
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            value: value.parse().ok()?,
        })
    });
    entries.collect()
}

fn second(files: &Files<'_>) -> v2::Metrics {
    let cpu = files.keyed("cpu", "cpu.stat");
    let events = files.keyed("memory", "memory.events");
    v2::Metrics {
        pids: Some(v2::PidsStat {
            current: files.number("pids", "pids.current"),
            limit: pids_limit(files),
        }),
        cpu: Some(v2::CPUStat {
            usage_usec: entry(&cpu, "usage_usec"),
            user_usec: entry(&cpu, "user_usec"),
            system_usec: entry(&cpu, "system_usec"),
            nr_periods: entry(&cpu, "nr_periods"),
            nr_throttled: entry(&cpu, "nr_throttled"),
            throttled_usec: entry(&cpu, "throttled_usec"),
            psi: None,
        }),
        memory: Some(memory_v2(files)),
        io: Some(v2::IOStat {
            usage: io_v2(files),
            psi: None,
        }),
        memory_events: Some(v2::MemoryEvents {
            low: entry(&events, "low"),
            high: entry(&events, "high"),
            max: entry(&events, "max"),
            oom: entry(&events, "oom"),
            oom_kill: entry(&events, "oom_kill"),
        }),
        ..v2::Metrics::default()
    }
}

fn memory_v2(files: &Files<'_>) -> v2::MemoryStat {
    let stat = files.keyed("memory", "memory.stat");
    let of = |key: &str| entry(&stat, key);
    let number = |name: &str| files.number("memory", name);
    v2::MemoryStat {
        anon: of("anon"),
        file: of("file"),
        kernel_stack: of("kernel_stack"),
        slab: of("slab"),
        sock: of("sock"),
        shmem: of("shmem"),
        file_mapped: of("file_mapped"),
        file_dirty: of("file_dirty"),
        file_writeback: of("file_writeback"),
        anon_thp: of("anon_thp"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        slab_reclaimable: of("slab_reclaimable"),
        slab_unreclaimable: of("slab_unreclaimable"),
        pgfault: of("pgfault"),
        pgmajfault: of("pgmajfault"),
        workingset_refault: of("workingset_refault"),
        workingset_activate: of("workingset_activate"),
        workingset_nodereclaim: of("workingset_nodereclaim"),
        pgrefill: of("pgrefill"),
        pgscan: of("pgscan"),
        pgsteal: of("pgsteal"),
        pgactivate: of("pgactivate"),
        pgdeactivate: of("pgdeactivate"),
        pglazyfree: of("pglazyfree"),
        pglazyfreed: of("pglazyfreed"),
        thp_fault_alloc: of("thp_fault_alloc"),
        thp_collapse_alloc: of("thp_collapse_alloc"),
        usage: number("memory.current"),
        usage_limit: number("memory.max"),
        swap_usage: number("memory.swap.current"),
        swap_limit: number("memory.swap.max"),
        max_usage: number("memory.peak"),
        swap_max_usage: number("memory.swap.peak"),
        psi: None,
    }
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io_v2(files: &Files<'_>) -> Vec<v2::IOEntry> {
    let text = files.text("io", "io.stat");
    let entries = text.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (major, minor) = fields.next()?.split_once(':')?;
        let mut entry = v2::IOEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            ..v2::IOEntry::default()
        };
        for (name, value) in fields.filter_map(|field| field.split_once('=')) {
            let place = match name {
                "rbytes" => &mut entry.rbytes,
                "wbytes" => &mut entry.wbytes,
                "rios" => &mut entry.rios,
                "wios" => &mut entry.wios,
                _ => continue,
            };
            *place = value.parse().ok()?;
        }
        Some(entry)
    });
    entries.collect()
}
