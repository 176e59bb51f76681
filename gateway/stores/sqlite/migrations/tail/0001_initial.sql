-- A reader goes through a log page by page, and each page looks into `tail` as well: without this it would go
-- through the rows of all logs there, and sort its own, for every page.

CREATE INDEX tail_by_log ON tail (session, seq);
