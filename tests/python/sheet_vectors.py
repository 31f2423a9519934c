"""Makes the workbooks that datasets/src/sheet/tests.rs, datasets/src/folder/duke/tests.rs and tests/command/duke.rs read.

Pinned: openpyxl 3.1.5, XlsxWriter 3.2.9 (python3 -m venv v && v/bin/pip install NAME==VERSION ...).
Run: python sheet_vectors.py ../../datasets/src/sheet/vectors

kinds.xlsx has cells of every kind, in shared texts; inline.xlsx the same texts in the cells themselves.
boxes.xlsx, mapping.xlsx and clinical.xlsx have the columns of the tables of Duke-Breast-Cancer-MRI with invented rows: of
the paths the stray `//`, slashes within descriptions and the two styles of folders; of the clinical table three rows of
headers, groups in merged cells, line breaks within names, and two sheets besides.
"""

import datetime
import pathlib
import sys

import openpyxl
import xlsxwriter

out = pathlib.Path(sys.argv[1])


def save(book, name):
    book.properties.created = book.properties.modified = datetime.datetime(2000, 1, 1)
    book.save(out / name)


def kinds():
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "First & only"
    sheet.append(["text", 12, 1.5, True, None, "a <b> & \"c\"\nd"])
    sheet["C3"] = "behind a gap"
    sheet["A4"] = "=B1*2"
    sheet["AB4"] = "far"
    book.create_sheet("Second").append(["other"])
    save(book, "kinds.xlsx")


def inline():
    book = xlsxwriter.Workbook(out / "inline.xlsx", {"constant_memory": True})
    book.set_properties({"created": datetime.datetime(2000, 1, 1)})
    sheet = book.add_worksheet("One")
    sheet.write_row(0, 0, ["text", 12, " kept blanks "])
    sheet.write_string(2, 2, "a <b> & c")
    book.close()


def boxes():
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(
        ["Patient ID", "Start Row", "End Row", "Start Column", "End Column", "Start Slice", "End Slice"]
    )
    sheet.append(["Breast_MRI_001", 2, 3, 4, 5, 1, 2])
    sheet.append(["Breast_MRI_002", 1, 1, 4, 5, 1, 1])
    sheet.append(["Breast_MRI_003", 1, 9, 1, 2, 1, 1])
    sheet.append(["Breast_MRI_005", 1, 2, 1, 2, 1, 2])
    sheet.append(["Breast_MRI_006", 4, 4, 1, 2, 3, 3])
    sheet.append(["Breast_MRI_007", 1, 2, 1, 2, 1, 2])
    sheet.append(["Breast_MRI_008", "?", 2, 1, 2, 1, 2])
    sheet.append(["Breast_MRI_009", 1, 2, 2, 1, 1, 2])
    sheet.append([])
    sheet.append([None, 1, 2, 1, 2, 1, 2])
    save(book, "boxes.xlsx")


def mapping():
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["original_path_and_filename", "classic_path", "descriptive_path"])
    uid = "1.3.6.1.4.1.14519.5.2.1."
    study = "01-01-1990-NA-MRI BREAST^ROUTINE W/WO-9753"
    series = [
        (1, "T1", "3.000000-ax t1-00010"),
        (1, "pre", "/4.000000-ax dyn pre-00011"),
        (1, "post_1", "5.000000-Ph1/ax dyn-00012"),
        (2, "pre", "4.000000-ax dyn pre-00021"),
        (2, "post_1", "5.000000-ax dyn 1st pas-00022"),
        (6, "post_1", "4.000000-ax 3d dyn-00061"),
        (6, "pre", "5.000000-Ph1/ax 3d dyn-00062"),
    ]
    for patient, phase, folder in series:
        name = f"Breast_MRI_{patient:03}"
        digits = folder[-5:]
        for slice_ in (1, 2, 3):
            sheet.append(
                [
                    f"DICOM_Images/{name}/{phase}/{name}_{phase}_{slice_:03}.dcm",
                    f"Duke-Breast-Cancer-MRI/{name}/{uid}{patient}/{uid}{digits}/1-{slice_:03}.dcm",
                    f"Duke-Breast-Cancer-MRI/{name}/{study}{patient}/{folder}/1-{slice_:03}.dcm",
                ]
            )
    for slice_ in (1, 2, 3):
        sheet.append([f"DICOM_Images/Breast_MRI_010/sub_1/Breast_MRI_010_sub_1_{slice_:03}.dcm", "a/b", "a/b"])
    sheet.append(["lost.dcm", "a/b", None])
    sheet.append(["DICOM_Images/lost.dcm", "a/b/c", None])
    save(book, "mapping.xlsx")


def clinical():
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Data"
    sheet.append(["Patient Information", None, "Tumor Characteristics", None, None, None, "Mammography"])
    sheet.merge_cells("A1:B1")
    sheet.merge_cells("C1:F1")
    sheet.append(
        [
            "Patient ID",
            "Date of Birth (Days)",
            "ER",
            "Staging(Tumor Size)#\n[T]",
            "Position",
            "Side Annotated\n{L=left R=right}",
            "Shape",
        ]
    )
    sheet.append([None, "(the day of diagnosis is 0)", "0 = neg,\n1 = pos", None, None, None, "{1 = oval}"])
    sheet.append(["Breast_MRI_001", -15209, 0, 2, "L 9 medial", "NP", "NC"])
    sheet.append(["Breast_MRI_002", -14061, 1, 1, "R 12, L 12", "R", 1])
    sheet.append(["Breast_MRI_005", -22685, 1, 2, "L", "NC", None])
    sheet.append(["Breast_MRI_006", -21479, 1, None, "L 3", "NC", 2.5])
    book.create_sheet("Legend").append(["R = right"])
    book.create_sheet("Column Explanations").append(["Patient ID"])
    save(book, "clinical.xlsx")


kinds()
inline()
boxes()
mapping()
clinical()
