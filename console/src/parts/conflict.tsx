import { Alert, Button, Group, Stack, Table } from "@mantine/core";
import { useTranslation } from "react-i18next";

interface Field {
  label: string;
  mine: string;
  theirs: string;
}

type Written = { label: string; value: string }[];

/** The same fields as they are in either, in one order. */
export function sideBySide(mine: Written, theirs: Written): Field[] {
  return mine.map(({ label, value }, at) => ({ label, mine: value, theirs: theirs[at]!.value }));
}

/** Two have edited the same: what each field is in either, and a choice. What is alike is left out. */
export function Conflict({ fields, mine, theirs }: {
  fields: Field[];
  /** Goes on with what is typed here, over what is there. */
  mine: () => void;
  /** Puts what is there into the form. */
  theirs: () => void;
}) {
  const { t } = useTranslation();
  return (
    <Alert color="orange" variant="outline" title={t("conflict.title")} role="alert">
      <Stack gap="xs">
        <Table aria-label={t("conflict.title")}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{t("conflict.field")}</Table.Th>
              <Table.Th>{t("conflict.mine")}</Table.Th>
              <Table.Th>{t("conflict.theirs")}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {fields.filter((field) => field.mine !== field.theirs).map((field) => (
              <Table.Tr key={field.label}>
                <Table.Th scope="row">{field.label}</Table.Th>
                <Table.Td>{field.mine || "–"}</Table.Td>
                <Table.Td>{field.theirs || "–"}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
        <Group gap="xs">
          <Button size="xs" variant="default" onClick={theirs}>{t("conflict.take_theirs")}</Button>
          <Button size="xs" variant="default" onClick={mine}>{t("conflict.keep_mine")}</Button>
        </Group>
      </Stack>
    </Alert>
  );
}
