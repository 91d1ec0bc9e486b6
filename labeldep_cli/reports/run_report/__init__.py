"""The sections of the report page of `labeldep report`."""
