"""Readers of office documents: Word, PowerPoint, Excel, Hangul, OpenDocument, RTF."""
