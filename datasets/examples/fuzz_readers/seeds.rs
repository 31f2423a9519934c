//! A good file of every format that is read, made by the writers of others where there are any.

use std::{
    error::Error,
    io::{self, Cursor, Write},
};

use datasets::{
    Grid, Spacing,
    volume::{NiftiVersion, NiftiVoxel, Volume, encode_nifti},
};
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use tiff::encoder::{Compression as TiffCompression, TiffEncoder, colortype};

#[path = "../../src/lidc/drawn.rs"]
#[allow(dead_code, reason = "tests use all of it")]
mod drawn;

/// Which reader a file is for.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    Volume,
    Raster,
    Dicom,
    Sheet,
    Reading,
}

/// How a file is compressed after it was mutated.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Packing {
    Plain,
    /// All of it.
    Gzip,
    /// What follows this many bytes, which are its header.
    GzipAfter(usize),
    ZlibAfter(usize),
}

/// A file before it is compressed.
#[derive(Clone)]
pub(crate) struct SeedFile {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) packing: Packing,
}

/// A format with its good files, the one that is opened first.
pub(crate) struct Seed {
    pub(crate) format: &'static str,
    pub(crate) target: Target,
    pub(crate) files: Vec<SeedFile>,
}

impl Seed {
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, Packing)> {
        self.files.iter().map(|file| (file.name.as_str(), file.packing))
    }
}

/// The bytes of a file as they lie on disk.
pub(crate) fn stored(file: &SeedFile) -> io::Result<Vec<u8>> {
    let cut = match file.packing {
        Packing::Plain => return Ok(file.bytes.clone()),
        Packing::Gzip => 0,
        Packing::GzipAfter(cut) | Packing::ZlibAfter(cut) => cut.min(file.bytes.len()),
    };
    let (header, rest) = file.bytes.split_at(cut);
    let packed = if let Packing::ZlibAfter(_) = file.packing {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(rest)?;
        encoder.finish()?
    } else {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(rest)?;
        encoder.finish()?
    };
    Ok([header, &packed].concat())
}

const NRRD: &str = "NRRD0004\n# drawn\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 3 2\n\
    space directions: (0.5,0,0) (0,0,0.75) (0,2,0)\nkinds: domain domain domain\nendian: little\n\
    encoding: raw\nspace origin: (10,-20,30)\n\n";

const META: &str = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n\
    CompressedData = False\nTransformMatrix = 1 0 0 0 0 1 0 1 0\nOffset = 10 -20 30\nElementSpacing = 0.5 0.75 2\n\
    DimSize = 4 3 2\nElementType = MET_SHORT\nElementDataFile = LOCAL\n";

pub(crate) fn all() -> Result<Vec<Seed>, Box<dyn Error>> {
    let mut seeds = volumes()?;
    seeds.extend(pictures()?);
    seeds.extend(series());
    seeds.extend(sheets());
    let reading = drawn::reading(1, &drawn::sessions(1));
    seeds.push(seed("lidc", Target::Reading, &[("a.xml", reading.as_bytes(), Packing::Plain)]));
    Ok(seeds)
}

/// Workbooks by openpyxl and XlsxWriter.
fn sheets() -> Vec<Seed> {
    let files: [(&str, &str, &[u8]); 3] = [
        ("xlsx", "a.xlsx", include_bytes!("../../src/sheet/vectors/kinds.xlsx")),
        ("xlsx_inline", "a.xlsx", include_bytes!("../../src/sheet/vectors/inline.xlsx")),
        ("csv", "a.csv", b"Patient ID,\"Start\nRow\"\r\n\"a \"\"b\"\"\",12\r\n"),
    ];
    let one = |(format, name, bytes): (&'static str, &str, &[u8])| {
        seed(format, Target::Sheet, &[(name, bytes, Packing::Plain)])
    };
    files.map(one).into()
}

/// Files by pydicom and GDCM.
fn series() -> Vec<Seed> {
    let files: [(&str, &[u8]); 6] = [
        ("dicom_enhanced", include_bytes!("../../src/dicom/vectors/enhanced.dcm")),
        ("dicom_phases", include_bytes!("../../src/dicom/vectors/phases.dcm")),
        ("dicom_rle", include_bytes!("../../src/dicom/vectors/run_length.dcm")),
        ("dicom_deflated", include_bytes!("../../src/dicom/vectors/deflated.dcm")),
        ("dicom_jpeg", include_bytes!("../../src/dicom/vectors/baseline.dcm")),
        ("dicom_lossless", include_bytes!("../../src/dicom/vectors/lossless.dcm")),
    ];
    let one = |(format, bytes): (&'static str, &[u8])| {
        seed(format, Target::Dicom, &[("a.dcm", bytes, Packing::Plain)])
    };
    files.map(one).into()
}

fn seed(format: &'static str, target: Target, files: &[(&str, &[u8], Packing)]) -> Seed {
    let file = |&(name, bytes, packing): &(&str, &[u8], Packing)| SeedFile {
        name: name.to_owned(),
        bytes: bytes.to_vec(),
        packing,
    };
    Seed { format, target, files: files.iter().map(file).collect() }
}

fn volumes() -> Result<Vec<Seed>, Box<dyn Error>> {
    use Packing::{Gzip, GzipAfter, Plain, ZlibAfter};
    use Target::Volume as V;
    let image =
        Grid::from_fn([2, 3, 4], |[slice, row, column]| (slice * 12 + row * 4 + column) as f32);
    let affine = [[-0.5, 0.0, 0.0, 10.0], [0.0, 0.75, 0.0, -3.0], [0.0, 0.0, 2.0, 5.5]];
    let volume =
        Volume { image, spacing: Spacing::new([2.0, 0.75, 0.5])?, affine: Some(affine.into()) };
    let first = encode_nifti(&volume, NiftiVoxel::F32, NiftiVersion::One)?;
    let second = encode_nifti(&volume, NiftiVoxel::U8, NiftiVersion::Two)?;
    let mut pair = first[..348].to_vec();
    pair[108..112].fill(0);
    pair[344..348].copy_from_slice(b"ni1\0");
    let voxels: Vec<u8> = (0..24_i16).flat_map(|value| (value - 4).to_le_bytes()).collect();
    let behind = |header: &str| [header.as_bytes(), &voxels].concat();
    let packed_meta = META.replace("Data = False", "Data = True");
    let packed_nrrd = NRRD.replace("raw", "gzip");
    let named = |header: &str, name: &str| header.replace("LOCAL", name);
    let beside =
        |header: &str, name: &str| header.replace("\n\n", &format!("\ndata file: {name}\n"));
    Ok(vec![
        seed("nifti1", V, &[("a.nii", &first, Plain)]),
        seed("nifti1_gz", V, &[("a.nii.gz", &first, Gzip)]),
        seed("nifti2", V, &[("a.nii", &second, Plain)]),
        seed("nifti2_gz", V, &[("a.nii.gz", &second, Gzip)]),
        seed("nifti_pair", V, &[("a.hdr", &pair, Plain), ("a.img", &first[352..], Plain)]),
        seed("nifti_pair_gz", V, &[("b.hdr", &pair, Plain), ("b.img.gz", &first[352..], Gzip)]),
        seed("mha", V, &[("a.mha", &behind(META), Plain)]),
        seed("mha_zlib", V, &[("a.mha", &behind(&packed_meta), ZlibAfter(packed_meta.len()))]),
        seed(
            "mhd",
            V,
            &[("a.mhd", named(META, "a.raw").as_bytes(), Plain), ("a.raw", &voxels, Plain)],
        ),
        seed(
            "mhd_zlib",
            V,
            &[
                ("a.mhd", named(&packed_meta, "a.zraw").as_bytes(), Plain),
                ("a.zraw", &voxels, ZlibAfter(0)),
            ],
        ),
        seed("nrrd", V, &[("a.nrrd", &behind(NRRD), Plain)]),
        seed("nrrd_gzip", V, &[("a.nrrd", &behind(&packed_nrrd), GzipAfter(packed_nrrd.len()))]),
        seed(
            "nhdr",
            V,
            &[("a.nhdr", beside(NRRD, "n.raw").as_bytes(), Plain), ("n.raw", &voxels, Plain)],
        ),
        seed(
            "nhdr_gzip",
            V,
            &[
                ("a.nhdr", beside(&packed_nrrd, "n.raw.gz").as_bytes(), Plain),
                ("n.raw.gz", &voxels, Gzip),
            ],
        ),
    ])
}

fn pictures() -> Result<Vec<Seed>, Box<dyn Error>> {
    use png::{BitDepth, ColorType};
    let mut seeds = Vec::new();
    let mut add = |format: &'static str, name: &str, bytes: &[u8]| {
        seeds.push(seed(format, Target::Raster, &[(name, bytes, Packing::Plain)]));
    };
    let noise: Vec<u8> =
        (0..768_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    add("png", "a.png", &png(ColorType::Grayscale, BitDepth::Eight, &noise[..256])?);
    add("png_palette", "a.png", &png(ColorType::Indexed, BitDepth::Four, &noise[..128])?);
    add("png_rgb", "a.png", &png(ColorType::Rgb, BitDepth::Eight, &noise)?);
    add("png_deep", "a.png", &png(ColorType::Grayscale, BitDepth::Sixteen, &noise[..512])?);
    add("gif", "a.gif", &gif()?);
    let compressions = [
        ("tiff", TiffCompression::Uncompressed),
        ("tiff_lzw", TiffCompression::Lzw),
        ("tiff_deflate", TiffCompression::Deflate(Default::default())),
        ("tiff_packbits", TiffCompression::Packbits),
    ];
    for (format, compression) in compressions {
        add(format, "a.tif", &tiff(compression)?);
    }
    let mut jpeg = Cursor::new(Vec::new());
    let picture = image::RgbImage::from_fn(16, 16, |column, row| {
        image::Rgb([(16 * column) as u8, (16 * row) as u8, 90])
    });
    picture.write_to(&mut jpeg, image::ImageFormat::Jpeg)?;
    add("jpeg", "a.jpg", jpeg.get_ref());
    Ok(seeds)
}

/// A picture of 16 x 16 pixels.
fn png(
    colour: png::ColorType,
    depth: png::BitDepth,
    rows: &[u8],
) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 16, 16);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == png::ColorType::Indexed {
        encoder.set_palette((0..48).map(|value| value * 5).collect::<Vec<u8>>());
        encoder.set_trns(vec![255, 0, 7]);
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rows)?;
    writer.finish()?;
    Ok(bytes)
}

fn gif() -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, 8, 8, &[0, 0, 0, 255, 0, 0, 4, 2, 4, 9, 9, 9])?;
    let buffer: Vec<u8> = (0..64_u8).map(|place| (place ^ (place >> 2)) % 4).collect();
    let frame = gif::Frame { width: 8, height: 8, buffer: buffer.into(), ..gif::Frame::default() };
    encoder.write_frame(&frame)?;
    drop(encoder);
    Ok(bytes)
}

/// Two pages of signed numbers.
fn tiff(compression: TiffCompression) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut bytes)?.with_compression(compression);
    let page: Vec<i16> = (0..64).map(|place| place * 37 % 101 - 50).collect();
    encoder.write_image::<colortype::GrayI16>(8, 8, &page)?;
    encoder.write_image::<colortype::GrayI16>(8, 8, &page)?;
    Ok(bytes.into_inner())
}
