//! What every storage does.

use packstone::base::id::ObjectId;
use packstone::storage::crash::CrashDisk;
use packstone::storage::local::Local;
use packstone::storage::memory::Memory;
use packstone::storage::{ErrorKind, Folder, ObjectName, Storage, Stored};

/// One object of each kind, with bytes of its own.
fn samples() -> Vec<(ObjectName, Vec<u8>)> {
    let bytes = |tag: u8, length: usize| [vec![tag; length], vec![0xee]].concat();
    let name = |make: fn(ObjectId) -> ObjectName, bytes: Vec<u8>| (make(ObjectId::of(&bytes)), bytes);
    vec![
        (ObjectName::Config, bytes(1, 255)),
        name(ObjectName::Key, bytes(2, 511)),
        name(ObjectName::Pack, bytes(3, 300_000)),
        name(ObjectName::Segment, bytes(4, 0)),
        name(ObjectName::Snapshot, bytes(5, 1)),
        name(|id| ObjectName::Head { generation: 0xfedc_ba98_7654_3210, id }, bytes(6, 700)),
    ]
}

fn suite(storage: &dyn Storage) {
    let samples = samples();
    for folder in Folder::ALL {
        assert_eq!(storage.list(folder).unwrap(), []);
    }
    for (name, bytes) in &samples {
        for error in [
            storage.read(name, 1000).unwrap_err(),
            storage.read_range(name, 0, 0).unwrap_err(),
            storage.length(name).unwrap_err(),
            storage.remove(name).unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::Absent, "{error}");
            assert!(error.to_string().contains(&name.to_string()), "{error}");
        }
        assert_eq!(storage.put(name, bytes).unwrap(), Stored::Created);
        assert_eq!(storage.put(name, bytes).unwrap(), Stored::Exists);
    }
    for (name, bytes) in &samples {
        let length = bytes.len() as u64;
        assert_eq!(storage.length(name).unwrap(), length);
        assert_eq!(&storage.read(name, length).unwrap(), bytes);
        assert_eq!(storage.read(name, length - 1).unwrap_err().kind, ErrorKind::Length);
        assert_eq!(storage.read_range(name, 0, length).unwrap(), *bytes);
        assert_eq!(storage.read_range(name, length - 1, 1).unwrap(), [0xee]);
        assert_eq!(storage.read_range(name, length, 0).unwrap(), Vec::<u8>::new());
        for (offset, count) in [(length, 1), (0, length + 1), (length + 1, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(storage.read_range(name, offset, count).unwrap_err().kind, ErrorKind::Length);
        }
        if let Some(folder) = name.folder() {
            let listed = storage.list(folder).unwrap();
            assert_eq!(listed.iter().map(|object| (object.name, object.length)).collect::<Vec<_>>(), [(*name, length)]);
            assert_eq!(storage.strays(folder).unwrap(), Vec::<String>::new());
        }
    }

    // What is there is left alone: other bytes under a hash are damage, under `config` simply not the first.
    for (name, bytes) in &samples {
        let same_length = vec![0x77; bytes.len()];
        for other in [&b"other"[..], &same_length] {
            if name.id().is_some() {
                assert!(storage.put(name, other).unwrap_err().to_string().contains("damaged"));
            } else {
                assert_eq!(storage.put(name, other).unwrap(), Stored::Exists);
            }
            assert_eq!(&storage.read(name, u64::MAX).unwrap(), bytes);
        }
    }

    // An upload is nothing until it is finished, may be finished by another thread, and leaves nothing when dropped.
    let bytes: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let name = ObjectName::Pack(ObjectId::of(&bytes));
    let mut dropped = storage.create().unwrap();
    let mut upload = storage.create().unwrap();
    for piece in bytes.chunks(77_777) {
        upload.append(piece).unwrap();
        dropped.append(piece).unwrap();
    }
    drop(dropped);
    assert_eq!(storage.length(&name).unwrap_err().kind, ErrorKind::Absent);
    assert_eq!(storage.clean_temporary().unwrap(), 0, "one upload left nothing, the other one is alive");
    let stored = std::thread::spawn(move || upload.finish(&name)).join().unwrap();
    assert_eq!(stored.unwrap(), Stored::Created);
    assert_eq!(storage.read(&name, u64::MAX).unwrap(), bytes);
    assert_eq!(storage.clean_temporary().unwrap(), 0);

    for (name, _) in &samples {
        storage.remove(name).unwrap();
        assert_eq!(storage.length(name).unwrap_err().kind, ErrorKind::Absent);
        assert_eq!(storage.remove(name).unwrap_err().kind, ErrorKind::Absent);
    }
    assert_eq!(storage.list(Folder::Packs).unwrap().len(), 1);
    // A removed name is free again.
    let (name, bytes) = &samples[2];
    assert_eq!(storage.put(name, bytes).unwrap(), Stored::Created);
}

/// Many threads store the same objects: each is created once.
fn together(storage: &dyn Storage) {
    let objects: Vec<Vec<u8>> = (0..20u8).map(|tag| vec![tag; 3000]).collect();
    let created: usize = std::thread::scope(|scope| {
        let store = || {
            let put = |bytes: &Vec<u8>| storage.put(&ObjectName::Pack(ObjectId::of(bytes)), bytes).unwrap();
            objects.iter().filter(|bytes| put(bytes) == Stored::Created).count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(store)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(created, objects.len());
    assert_eq!(storage.list(Folder::Packs).unwrap().len(), objects.len());
}

#[test]
fn memory_keeps_the_promises() {
    suite(&Memory::new());
    together(&Memory::new());
}

#[test]
fn the_local_disk_keeps_the_promises() {
    let directory = tempfile::tempdir().unwrap();
    suite(&Local::create(&directory.path().join("a")).unwrap());
    together(&Local::create(&directory.path().join("b")).unwrap());
}

#[test]
fn the_crash_disk_keeps_the_promises() {
    suite(&Local::create_with_disk(CrashDisk::new()).unwrap());
    together(&Local::create_with_disk(CrashDisk::new()).unwrap());
}

#[test]
fn memory_can_be_damaged_for_a_test() {
    let storage = Memory::new();
    let name = ObjectName::Pack(ObjectId::of(b"abc"));
    assert!(!storage.corrupt(&name, |bytes| bytes.clear()));
    storage.put(&name, b"abc").unwrap();
    assert!(storage.corrupt(&name, |bytes| bytes[1] ^= 1));
    assert_eq!(storage.objects()[&name], b"acc");
    assert_eq!(storage.clone().read(&name, 3).unwrap(), b"acc");
}
