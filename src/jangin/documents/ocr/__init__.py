"""OCR of page images: Tesseract 5 as a subprocess, several pages in parallel."""
