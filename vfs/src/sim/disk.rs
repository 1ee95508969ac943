//! The simulated disk's tree: directories with a live and a durable view of their names, and the
//! name changes between the two.
//!
//! Owns nodes and names. Knows nothing of faults, power, handles' liveness or locks: `state.rs`
//! stands before every call. File contents are in `inode.rs`.
//!
//! # Invariants
//! - Applying all pending changes, in order, to the durable names gives the live names.
//! - A node goes only when no live name, durable name, pending change or handle refers to it.

use super::inode::FileNode;
use crate::EntryKind;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io::{self, ErrorKind},
    mem,
    path::{Component, Path, PathBuf},
};

/// Identifies a file or directory for ever; never used twice on one disk.
pub(super) type NodeId = u64;

const ROOT: NodeId = 0;

/// Sweeping starts when there are this many nodes, and again at every doubling.
const SWEEP_MIN: usize = 256;

type Names = BTreeMap<OsString, NodeId>;

#[derive(Clone, Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Debug, Default)]
struct DirNode {
    live: Names,
    durable: Names,
}

/// A name in a directory, and what it refers to.
#[derive(Clone, Debug)]
struct Link {
    dir: NodeId,
    name: OsString,
    node: NodeId,
}

/// An unsynced change of names: a creation has an `add`, a removal a `remove`, a rename both.
#[derive(Clone, Debug)]
pub(super) struct DirOp {
    add: Option<Link>,
    remove: Option<Link>,
    /// The directory of `remove` was synced while `add` was not durable. The removal waits for
    /// the addition, or a crash in between would lose both names of a renamed file.
    remove_synced: bool,
}

impl DirOp {
    /// The names it changes.
    pub(super) fn names(&self) -> impl Iterator<Item = (NodeId, &OsString)> {
        self.add.iter().chain(&self.remove).map(|link| (link.dir, &link.name))
    }
}

/// The simulated disk.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    nodes: BTreeMap<NodeId, Node>,
    next: NodeId,
    pending: Vec<DirOp>,
    sweep_at: usize,
}

impl Disk {
    /// A disk with an empty root directory.
    pub(super) fn new() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]);
        Self { nodes, next: ROOT + 1, pending: Vec::new(), sweep_at: SWEEP_MIN }
    }

    /// The file at a path, in the live view.
    pub(super) fn file_id(&self, path: &Path) -> io::Result<NodeId> {
        let id = self.resolve(path, |dir| &dir.live)?;
        self.file(id).map(|_| id)
    }

    /// The contents of a file.
    pub(super) fn file(&self, id: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// The contents of a file, to be changed.
    pub(super) fn file_mut(&mut self, id: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// All file contents, in the order of their creation.
    pub(super) fn files_mut(&mut self) -> impl Iterator<Item = &mut FileNode> {
        self.nodes.values_mut().filter_map(|node| match node {
            Node::File(file) => Some(file),
            Node::Dir(_) => None,
        })
    }

    /// What a path is in the durable view; `None` if a crash would forget it.
    pub(super) fn durable_file(&self, path: &Path) -> Option<&FileNode> {
        let id = self.resolve(path, |dir| &dir.durable).ok()?;
        self.file(id).ok()
    }

    /// Kind and length of a path.
    pub(super) fn stat(&self, path: &Path) -> io::Result<(EntryKind, usize)> {
        let id = self.resolve(path, |dir| &dir.live)?;
        Ok(match self.nodes.get(&id) {
            Some(Node::File(file)) => (EntryKind::File, file.len()),
            _ => (EntryKind::Dir, 0),
        })
    }

    /// The names in a directory, sorted.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<(OsString, EntryKind)>> {
        let dir = self.dir(self.resolve(path, |dir| &dir.live)?)?;
        let kind = |id| match self.nodes.get(id) {
            Some(Node::File(_)) => EntryKind::File,
            _ => EntryKind::Dir,
        };
        Ok(dir.live.iter().map(|(name, id)| (name.clone(), kind(id))).collect())
    }

    /// Every file of the live view with its path, sorted by path.
    pub(super) fn walk(&self) -> Vec<(PathBuf, &FileNode)> {
        let mut found = Vec::new();
        let mut dirs = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = dirs.pop() {
            let Ok(dir) = self.dir(id) else { continue };
            for (name, id) in &dir.live {
                match self.nodes.get(id) {
                    Some(Node::File(file)) => found.push((path.join(name), file)),
                    Some(Node::Dir(_)) => dirs.push((path.join(name), *id)),
                    None => {}
                }
            }
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// Bytes held by files that have a name or a handle.
    pub(super) fn used(&self) -> u64 {
        let named = self.reachable(|dir| dir.live.values());
        let held = |(id, node): (&NodeId, &Node)| match node {
            Node::File(file) if file.handles > 0 || named.contains(id) => file.len() as u64,
            _ => 0,
        };
        self.nodes.iter().map(held).sum()
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<NodeId> {
        self.create(path, Node::File(FileNode::default()))
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        self.create(path, Node::Dir(DirNode::default())).map(|_| ())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let link = self.find(path)?;
        self.file(link.node)?;
        self.change(None, Some(link))
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let link = self.find(path)?;
        if !self.dir(link.node)?.live.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(None, Some(link))
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let remove = self.find(from)?;
        self.file(remove.node)?;
        let (dir, name) = self.parent(to)?;
        if let Some(&replaced) = self.dir(dir)?.live.get(name) {
            self.file(replaced)?;
            if replaced == remove.node {
                return Ok(()); // a file renamed to its own name: nothing happens, as in POSIX
            }
        }
        let add = Link { dir, name: name.to_os_string(), node: remove.node };
        self.change(Some(add), Some(remove))
    }

    /// Makes the names of one directory durable.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let id = self.resolve(path, |dir| &dir.live)?;
        self.dir(id)?;
        for mut op in mem::take(&mut self.pending) {
            if let Some(add) = op.add.take_if(|add| add.dir == id) {
                self.add_durable(add);
            }
            op.remove_synced |= op.remove.as_ref().is_some_and(|remove| remove.dir == id);
            if op.add.is_none()
                && op.remove_synced
                && let Some(remove) = op.remove.take()
            {
                self.remove_durable(&remove);
            }
            if op.add.is_some() || op.remove.is_some() {
                self.pending.push(op);
            }
        }
        Ok(())
    }

    pub(super) fn take_pending(&mut self) -> Vec<DirOp> {
        mem::take(&mut self.pending)
    }

    /// Ends a crash: these changes reached the disk, and the durable names are now the live ones.
    pub(super) fn settle_names(&mut self, kept: Vec<DirOp>) {
        for op in kept {
            if let Some(add) = op.add {
                self.add_durable(add);
            }
            if let Some(remove) = op.remove {
                self.remove_durable(&remove);
            }
        }
        for node in self.nodes.values_mut() {
            if let Node::Dir(dir) = node {
                dir.live.clone_from(&dir.durable);
            }
        }
        self.close_all();
    }

    /// Forgets the handles of processes that are gone, and what only they held.
    pub(super) fn close_all(&mut self) {
        for file in self.files_mut() {
            file.handles = 0;
        }
        self.sweep();
    }

    fn create(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        let (dir, name) = self.parent(path)?;
        if self.dir(dir)?.live.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let name = name.to_os_string();
        if self.nodes.len() >= self.sweep_at {
            self.sweep();
            self.sweep_at = SWEEP_MIN.max(2 * self.nodes.len());
        }
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        self.change(Some(Link { dir, name, node: id }), None)?;
        Ok(id)
    }

    /// Applies a change to the live names and remembers it as unsynced.
    fn change(&mut self, add: Option<Link>, remove: Option<Link>) -> io::Result<()> {
        if let Some(remove) = &remove {
            self.dir_mut(remove.dir)?.live.remove(&remove.name);
        }
        if let Some(add) = &add {
            self.dir_mut(add.dir)?.live.insert(add.name.clone(), add.node);
        }
        self.pending.push(DirOp { add, remove, remove_synced: false });
        Ok(())
    }

    fn add_durable(&mut self, add: Link) {
        if let Ok(dir) = self.dir_mut(add.dir) {
            dir.durable.insert(add.name, add.node);
        }
    }

    fn remove_durable(&mut self, remove: &Link) {
        if let Ok(dir) = self.dir_mut(remove.dir) {
            remove_if_same(&mut dir.durable, remove);
        }
    }

    fn dir(&self, id: NodeId) -> io::Result<&DirNode> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn dir_mut(&mut self, id: NodeId) -> io::Result<&mut DirNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Follows a path from the root, through one of the two views. Relative paths start there too.
    fn resolve(&self, path: &Path, names: impl Fn(&DirNode) -> &Names) -> io::Result<NodeId> {
        let mut here = ROOT;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    let dir = names(self.dir(here)?);
                    here = *dir.get(name).ok_or(ErrorKind::NotFound)?;
                }
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(ErrorKind::InvalidInput.into());
                }
            }
        }
        Ok(here)
    }

    fn parent<'a>(&self, path: &'a Path) -> io::Result<(NodeId, &'a OsStr)> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok((self.resolve(parent, |dir| &dir.live)?, name)),
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Link> {
        let (dir, name) = self.parent(path)?;
        let node = *self.dir(dir)?.live.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(Link { dir, name: name.to_os_string(), node })
    }

    /// The nodes under the root, by the given names.
    fn reachable<'a, I>(&'a self, names: impl Fn(&'a DirNode) -> I) -> BTreeSet<NodeId>
    where
        I: Iterator<Item = &'a NodeId>,
    {
        let mut reached = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        open.extend(
            self.pending
                .iter()
                .flat_map(|op| op.add.iter().chain(&op.remove).map(|link| link.node)),
        );
        while let Some(id) = open.pop() {
            if let Ok(dir) = self.dir(id) {
                open.extend(names(dir).copied().filter(|&node| reached.insert(node)));
            }
        }
        reached
    }

    /// Frees what nothing refers to.
    fn sweep(&mut self) {
        let mut reached = self.reachable(|dir| dir.live.values().chain(dir.durable.values()));
        for op in &self.pending {
            reached.extend(op.add.iter().chain(&op.remove).map(|link| link.node));
        }
        self.nodes.retain(|id, node| {
            reached.contains(id) || matches!(node, Node::File(file) if file.handles > 0)
        });
    }
}

/// A removal is of one file under one name: a newer file under that name stays.
fn remove_if_same(names: &mut Names, remove: &Link) {
    if names.get(&remove.name) == Some(&remove.node) {
        names.remove(&remove.name);
    }
}
