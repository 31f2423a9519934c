//! Small DICOM files for tests, explicit little endian; whoever they are of has a name that must be found nowhere.

/// Occurs in every attribute of the files that could name somebody.
pub(crate) const NAME: &str = "Canary";

/// A file as a list of elements.
#[derive(Clone)]
pub(crate) struct DrawnFile {
    elements: Vec<(u16, u16, &'static str, Vec<u8>)>,
}

impl DrawnFile {
    /// An axial slice of `[rows, columns]` whose first pixel lies at `position`.
    pub(crate) fn slice(shape: [u16; 2], position: [f64; 3], pixels: &[u16]) -> Self {
        let mut drawn = Self { elements: Vec::new() };
        let [x, y, z] = position;
        drawn.text(0x0008, 0x0018, "UI", "1.2.3.4").text(0x0008, 0x0080, "LO", NAME);
        drawn.text(0x0008, 0x103e, "LO", NAME).text(0x0010, 0x0010, "PN", &format!("{NAME}^Of"));
        drawn.text(0x0010, 0x0020, "LO", NAME).text(0x0010, 0x4000, "LT", NAME);
        drawn.text(0x0020, 0x000e, "UI", "1.2.3").text(
            0x0020,
            0x0032,
            "DS",
            &format!("{x}\\{y}\\{z}"),
        );
        drawn.text(0x0020, 0x0037, "DS", "1\\0\\0\\0\\1\\0").number(0x0028, 0x0002, 1);
        drawn.text(0x0028, 0x0004, "CS", "MONOCHROME2").number(0x0028, 0x0010, shape[0]);
        drawn.number(0x0028, 0x0011, shape[1]).text(0x0028, 0x0030, "DS", "0.75\\0.5");
        drawn.number(0x0028, 0x0100, 16).number(0x0028, 0x0101, 12).number(0x0028, 0x0102, 11);
        drawn.number(0x0028, 0x0103, 0);
        let bytes = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        drawn.set(0x7fe0, 0x0010, "OW", bytes);
        drawn
    }

    /// Replaces or adds an element.
    pub(crate) fn set(
        &mut self,
        group: u16,
        element: u16,
        vr: &'static str,
        value: Vec<u8>,
    ) -> &mut Self {
        self.without(group, element);
        self.elements.push((group, element, vr, value));
        self
    }

    pub(crate) fn text(
        &mut self,
        group: u16,
        element: u16,
        vr: &'static str,
        text: &str,
    ) -> &mut Self {
        self.set(group, element, vr, text.as_bytes().to_vec())
    }

    pub(crate) fn number(&mut self, group: u16, element: u16, number: u16) -> &mut Self {
        self.set(group, element, "US", number.to_le_bytes().to_vec())
    }

    pub(crate) fn without(&mut self, group: u16, element: u16) -> &mut Self {
        self.elements.retain(|own| (own.0, own.1) != (group, element));
        self
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&[0; 128][..], b"DICM"].concat();
        push(&mut bytes, (2, 0x10), "UI", b"1.2.840.10008.1.2.1");
        let mut elements: Vec<_> = self.elements.iter().collect();
        elements.sort_by_key(|own| (own.0, own.1));
        for (group, element, vr, value) in elements {
            push(&mut bytes, (*group, *element), vr, value);
        }
        bytes
    }
}

/// Writes an element with its value padded to an even length.
fn push(bytes: &mut Vec<u8>, (group, element): (u16, u16), vr: &str, value: &[u8]) {
    let length = value.len().next_multiple_of(2);
    bytes.extend([group.to_le_bytes(), element.to_le_bytes()].concat());
    bytes.extend(vr.as_bytes());
    if matches!(vr, "OW" | "OB" | "SQ" | "UN") {
        bytes.extend([0; 2]);
        bytes.extend((length as u32).to_le_bytes());
    } else {
        bytes.extend((length as u16).to_le_bytes());
    }
    bytes.extend(value);
    let padding = if vr == "UI" { 0 } else { b' ' };
    bytes.resize(bytes.len() + length - value.len(), padding);
}
