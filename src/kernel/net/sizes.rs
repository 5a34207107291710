//! Sizes of what the paths compute: a convolution, a map, and the groups of a batch. All paths share them, and `scripts/sanitize_kernels.sh` reads
//! this file, too.

/// A square convolution of channels-last maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Images.
    pub n: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride on both axes.
    pub stride: usize,
    /// Zero padding on all sides.
    pub padding: usize,
}

impl Conv {
    /// Height and width of the output.
    pub fn out_size(&self) -> [usize; 2] {
        self.size.map(|side| (side + 2 * self.padding - self.kernel) / self.stride + 1)
    }

    /// The output's shape, channels last.
    pub fn out_dims(&self) -> [usize; 4] {
        let [h, w] = self.out_size();
        [self.n, h, w, self.output]
    }

    /// Values of the input.
    pub fn in_len(&self) -> usize {
        self.n * self.size[0] * self.size[1] * self.input
    }

    /// Values of the output.
    pub fn out_len(&self) -> usize {
        self.out_dims().iter().product()
    }

    /// Values of the weights.
    pub fn weights(&self) -> usize {
        self.input * self.output * self.kernel * self.kernel
    }
}

/// A channels-last map `[n, pixels, channels]` whose images form `groups` groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// Images.
    pub n: usize,
    /// Pixels of an image.
    pub pixels: usize,
    /// Channels.
    pub channels: usize,
    /// SplitBN groups.
    pub groups: usize,
}

impl Map {
    /// Number of values.
    pub fn size(&self) -> usize {
        self.n * self.pixels * self.channels
    }

    /// Values of a channel in a group.
    pub fn count(&self) -> usize {
        self.n / self.groups * self.pixels
    }
}

/// The parts of a batch that are normalised apart: `forwards` batches that go through a net together, each in `splits` SplitBN groups. Of
/// `all = forwards splits` groups image i belongs to group `i mod all`, and group g to forward `g / splits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// Batches that go through together.
    pub forwards: usize,
    /// SplitBN groups of each.
    pub splits: usize,
}

impl Groups {
    /// Of one forward.
    pub fn of(splits: usize) -> Self {
        Self { forwards: 1, splits }
    }

    /// Groups of all forwards.
    pub fn all(self) -> usize {
        self.forwards * self.splits
    }
}
